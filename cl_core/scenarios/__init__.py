"""Scenarios and class orders."""
