"""Stored frames to batches of clips: sampling, augmentation, the data set."""
