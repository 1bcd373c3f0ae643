"""Annotations of other programs and data sets, read as they are."""
