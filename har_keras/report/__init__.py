"""Reports: pages, plots and files of evaluations and predictions."""
