"""Runs side by side: what differs, and whether it is better."""
