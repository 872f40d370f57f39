"""One job in the process that trains it."""
