"""What the servers of this package share: who may ask, and how much."""
