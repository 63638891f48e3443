"""Documents that are said twice: exact copies by fingerprint, near ones by MinHash and true Jaccard."""
