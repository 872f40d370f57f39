"""Verbs carried out, one file each; `search.cli` parses and prints."""
