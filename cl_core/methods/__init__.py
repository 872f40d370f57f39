"""The methods: one file each, reading like its paper. Found by `cl_core.method.METHODS`."""
