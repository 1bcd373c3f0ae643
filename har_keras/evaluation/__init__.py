"""Evaluation: metrics, controls and robustness."""
