"""Launch files: a study on machines that a scheduler hands out."""
