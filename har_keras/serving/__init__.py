"""A run to what a server loads, and the client of that server."""
