"""Images in memory, and what a run sees of them."""
