"""Batches to a trained model: fit, optimizer, checkpoints, callbacks."""
