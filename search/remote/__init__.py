"""Run folders and checkpoints in an object store: copies on this machine, leases."""
