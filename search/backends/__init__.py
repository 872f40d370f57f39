"""Backends that carry out jobs: this process, or Ray Tune on a machine or a cluster."""
