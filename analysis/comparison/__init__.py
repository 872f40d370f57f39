"""Two run folders, compared."""
