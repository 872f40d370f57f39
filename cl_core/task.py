"""The words of a task and of a step: Task, Out, Batch and Term."""

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
    """The result of one forward pass of a network."""

    features: Tensor  # [B, D] input of the head
    logits: Tensor  # [B, seen]
    maps: tuple[Tensor, ...]  # one of each stage of the net, [B, C, H, W]; the last enters the pooling


class Batch(NamedTuple):
    """The images of one step after augmentation, with the method's random draws."""

    x: Tensor  # [B, C, H, W] float, normalised; features [B, D] in a phase whose inputs are fixed
    y: Tensor  # [B] int64, arrival order
    drawn: Mapping[str, Tensor] = {}
    rows: Tensor = torch.empty(0, dtype=torch.int64)  # [B] ids in the split; -1 for an image the method made


class Term(NamedTuple):
    """A named part of a loss; the objective is the sum of value x weight."""

    value: Tensor  # scalar
    weight: float | Tensor = 1.0


def no_rows() -> Tensor:
    """Return an empty list of row ids."""
    return torch.empty(0, dtype=torch.int64)
