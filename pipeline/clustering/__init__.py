"""Vectors in groups: centres found in blocks, every row assigned to one, and what a group is about."""
