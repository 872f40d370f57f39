"""Where jobs run: this process, or Ray Tune on a machine or a cluster."""
