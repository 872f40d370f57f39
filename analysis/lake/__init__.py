"""The tables and files of a run folder, read as pandas frames."""
