"""Intervals over class orders, with the error that counting leaves."""
