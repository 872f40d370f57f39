"""The study file: one model a part, every key with its meaning."""
