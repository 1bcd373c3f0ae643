"""Benchmarks of speed and accuracy; no other module imports them."""
