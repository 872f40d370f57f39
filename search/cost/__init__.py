"""Cost of a study before it is run."""
