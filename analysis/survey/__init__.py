"""Findings of the survey as claims, and their verdicts."""
