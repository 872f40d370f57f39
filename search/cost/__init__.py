"""Cost of a study before it runs: forecast, probe, rehearsal."""
