"""Jobs: which comes next, who hands them out, what they may spend."""
