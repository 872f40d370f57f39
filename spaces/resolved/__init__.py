"""A study on its data: cells, runs, checks, warnings and study.yaml."""
