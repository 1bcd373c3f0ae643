"""Programs for long checks: `cd tests; python -m programs.soak --help`."""
