"""Clips to logits: the networks, in Keras ops alone."""
