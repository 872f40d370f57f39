"""Search spaces: parameters with domains, fixed values, branches."""
