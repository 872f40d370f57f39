"""Data sets, one file each, registered by name for `cl_core.dataset.load`; `cache` registers nothing."""
