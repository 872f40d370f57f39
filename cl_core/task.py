"""What a method is told about a task, and what passes between it and the trainer in a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from cl_core.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """One task: its classes by arrival order are `range(old, seen)`, its training rows `rows`."""

    index: int
    sizes: tuple[int, ...]  # classes of every task so far, this one included
    rows: Tensor  # [n] int64: ids of this task's rows in the training split, on the CPU
    recipe: Recipe  # in force for this task

    @property
    def old(self) -> int:
        """Classes seen before this task."""
        return sum(self.sizes[:-1])

    @property
    def seen(self) -> int:
        """Classes seen with this task."""
        return sum(self.sizes)

    @property
    def new(self) -> int:
        """Classes of this task."""
        return self.sizes[-1]

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """[start, end) of the classes of every task so far."""
        ends = tuple(accumulate(self.sizes))
        return tuple(zip((0, *ends[:-1]), ends, strict=True))


class Out(NamedTuple):
    """What one forward gives."""

    features: Tensor  # [B, D] what the head reads
    logits: Tensor  # [B, seen]
    maps: tuple[Tensor, ...]  # one a checkpoint, [B, C, H, W]; the last is what enters the pooling


class Batch(NamedTuple):
    """One step's images after augmentation, and what the method drew for the step."""

    x: Tensor  # [B, C, H, W] float, normalised
    y: Tensor  # [B] int64, arrival order
    drawn: Mapping[str, Tensor] = {}
    rows: Tensor = torch.empty(0, dtype=torch.int64)  # [B] ids in the split; -1 for an image the method made


class Term(NamedTuple):
    """A named part of a loss; the objective is the sum of value x weight."""

    value: Tensor  # scalar
    weight: float | Tensor = 1.0


def no_rows() -> Tensor:
    """An empty list of row ids."""
    return torch.empty(0, dtype=torch.int64)
