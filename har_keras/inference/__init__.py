"""A video to a prediction: loading a model, views, timelines."""
