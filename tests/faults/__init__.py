"""Faults at random moments of real sweeps. `python -m tests.faults --seed 0 --count 200`."""
