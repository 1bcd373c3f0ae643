"""Diagnosis of the installation: what works, and how to fix the rest."""
