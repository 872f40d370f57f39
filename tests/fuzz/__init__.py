"""Damaged and made-up input: whatever it is, a person gets one line and the right exit code."""
