"""Trials, the selected one of each cell, and its references."""
