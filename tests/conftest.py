"""Settings of all tests: examples are the same in every run, and no machine is too slow for them.

Several processes test at once, so each trains with one thread.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded

settings.register_profile("everywhere", deadline=None, derandomize=True)
settings.load_profile("everywhere")
