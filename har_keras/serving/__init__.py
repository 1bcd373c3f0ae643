"""From a run to what a server loads, and what talks to that server."""
