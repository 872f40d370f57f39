"""The backbones and heads. Found by `cl_core.nets.network.NETS`."""
