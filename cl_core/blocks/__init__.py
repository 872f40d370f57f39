"""Losses and other building blocks that methods call."""
