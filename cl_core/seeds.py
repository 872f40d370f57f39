"""Named random streams in NumPy, without torch.

A stream is determined by the seed and the names alone, so a draw does not depend on what was drawn before it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, names: tuple[str | int, ...]) -> int:
    """Return the seed of the generator for the purpose `names` under `seed`."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator for the purpose `names` under `seed`."""
    return np.random.default_rng(seed_of(seed, names))
