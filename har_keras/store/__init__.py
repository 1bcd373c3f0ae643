"""The frame store: videos decoded once to shards; near-duplicates."""
