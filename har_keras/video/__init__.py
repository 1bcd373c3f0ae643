"""A file to frames: the bundled ffmpeg, images, live sources."""
