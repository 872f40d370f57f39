"""The saved model and the Python API."""
