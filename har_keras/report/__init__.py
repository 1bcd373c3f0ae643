"""Figures and predictions to pages, pictures and files for people."""
