"""A web page that classifies videos."""
