"""Frames decoded once and kept: the store, its shards, duplicates."""
