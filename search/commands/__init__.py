"""One file a verb: carry it out; `search.cli` parses and prints."""
