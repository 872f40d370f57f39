"""The trainer and what one run needs."""
