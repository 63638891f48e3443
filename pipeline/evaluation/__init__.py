"""Is a model good for somebody's data: retrieval, similarity of pairs and labels, with intervals."""
