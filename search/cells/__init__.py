"""The search itself: one Optuna study a cell, its samplers and stoppers, equal budgets."""
