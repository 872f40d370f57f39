"""Named random streams in torch: every draw takes a generator from `stream(seed, ...)`.

A stream is determined by the seed and the names alone, so a draw does not depend on what was drawn before it.
So a resumed run equals an uninterrupted one bit for bit. No name may contain a method's name:
two methods of one base family must draw the same first task.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cl_core.seeds import seed_of


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the purpose `names` under `seed`."""
    return torch.Generator().manual_seed(seed_of(seed, names))


_GLOBAL = threading.Lock()


@contextlib.contextmanager
def global_stream(g: torch.Generator) -> Iterator[None]:
    """Let torch's own initialisers draw from the seed of `g` within; the global generator is left as it was.

    Runs of one process take turns.
    """
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also move the generators of the GPUs.
        torch.default_generator.manual_seed(g.initial_seed())
        yield


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
