"""Predictions to figures: metrics, controls, robustness."""
