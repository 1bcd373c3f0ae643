"""Clips in, probabilities out: the networks, in Keras ops alone."""
