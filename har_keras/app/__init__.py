"""The page in the browser: drop a video, see what it shows, and when."""
