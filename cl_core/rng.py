"""Randomness has a name: every draw takes a generator from `stream(seed, ...)`.

A stream is determined by the seed and the names alone, so a draw does not depend on what was drawn before it.
That is what makes a resumed run equal an uninterrupted one bit for bit. No name may contain a method's name:
two methods of one base family must draw the same first task.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


def _seed(seed: int, names: tuple[str | int, ...]) -> int:
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the purpose `names` under `seed`."""
    return torch.Generator().manual_seed(_seed(seed, names))


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy generator for the same purpose; not the same numbers as `stream`."""
    return np.random.default_rng(_seed(seed, names))


@dataclass(frozen=True)
class Streams:
    """The streams of one task: `g("herding", c)` is `stream(seed, "task", index, "herding", c)`."""

    seed: int
    task: int
    within: tuple[str | int, ...] = ()

    def __call__(self, *names: str | int) -> torch.Generator:
        return stream(self.seed, "task", self.task, *self.within, *names)

    def at(self, *names: str | int) -> Streams:
        """The streams of a part of the task, such as one step: `g.at("train", 3)("noise")`."""
        return Streams(self.seed, self.task, (*self.within, *names))
