"""Tables of cells and runs for a terminal, and the live view of a command at work."""
