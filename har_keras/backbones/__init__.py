"""Pretrained networks that turn frames into features."""
