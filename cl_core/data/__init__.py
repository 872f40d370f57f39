"""Data sets, one file each, registered by name for `cl_core.images.loading.load`."""
