"""Searches without training: a grid that was recorded once, looked up by the jobs of the real search."""
