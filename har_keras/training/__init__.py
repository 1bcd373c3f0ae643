"""What `fit` needs around it: optimizer, steps, checkpoints, callbacks."""
