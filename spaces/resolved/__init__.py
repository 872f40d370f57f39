"""A study resolved on its data: cells, spaces, budgets."""
