"""Rows of a run, and the tables they are written to."""
