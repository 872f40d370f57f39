"""The run folder and its lock, Optuna's storage, file systems."""
