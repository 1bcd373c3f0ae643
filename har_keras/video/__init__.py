"""From files to frames: manifest, decoding, store, sampling, data set."""
