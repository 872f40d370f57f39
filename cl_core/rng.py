"""Named random streams in torch: every draw takes a generator from `stream(seed, ...)`.

A stream is determined by the seed and the names alone, so a draw does not depend on what was drawn before it.
So a resumed run equals an uninterrupted one bit for bit. No name may contain a method's name:
two methods of one base family must draw the same first task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cl_core.seeds import seed_of


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the purpose `names` under `seed`."""
    return torch.Generator().manual_seed(seed_of(seed, names))


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
