"""Videos, models, runs and servers that the tests share."""
