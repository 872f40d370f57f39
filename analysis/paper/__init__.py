"""Figures and tables of the report as files for a paper."""
