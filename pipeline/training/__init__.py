"""Mini-batches of vectors for training, and heads trained on them."""
