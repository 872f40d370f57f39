"""Checks before work: a study, an evaluation or a single run, with everything that may refuse it."""
