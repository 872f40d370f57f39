"""Settings of all tests: examples are the same in every run, and no machine is too slow for them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("everywhere", deadline=None, derandomize=True)
settings.load_profile("everywhere")
