"""The rows of an epoch, and the rows of the head that stay fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cl_core.method import Phase, Rows
from cl_core.nets.network import Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.task import no_rows


class Epoch(NamedTuple):
    """The steps of one epoch of a phase."""

    steps: tuple[Tensor, ...]  # row ids [B] of each step, on the CPU; none where the method makes the images
    widths: tuple[int, ...]  # images of each step
    images: int  # of all steps, without the repeated ones that complete the last


def epoch_of(phase: Phase, g: Streams, epoch: int) -> Epoch:
    """The steps of an epoch: those of `epoch_rows`, or of a phase without rows as many as it names."""
    if phase.rows:
        return epoch_rows(phase.rows, phase.recipe, g, (phase.name, epoch))
    if phase.steps < 1:
        raise ValueError(f"phase {phase.name!r} needs rows, or a number of steps without rows")
    batch = phase.recipe.batch
    return Epoch((no_rows(),) * phase.steps, (batch,) * phase.steps, phase.steps * batch)


def epoch_rows(sources: Sequence[Rows], recipe: Recipe, g: Streams, purpose: tuple[str | int, ...]) -> Epoch:
    """The rows of one epoch, step by step.

    The first source is passed over once and sets the steps; `recipe.last_batch` decides on rows that fill no
    batch. Fewer rows than a batch are one step. Further sources fill the same number of places in every step,
    reshuffled and repeated for as long as the first lasts.
    """
    first, *others = sources
    n = len(first.ids)
    if not n:
        raise ValueError("a phase needs at least one row")
    widths = _widths(n, first.batch or recipe.batch, recipe.last_batch)
    order = torch.randperm(n, generator=g(*purpose, "permutation", 0, 0))
    order = torch.cat([order, order])[: sum(widths)]
    columns = [first.ids[order].split(widths)]
    for k, source in enumerate(others, start=1):
        if not len(source.ids):
            continue
        width = source.batch or recipe.batch
        rounds = math.ceil(len(widths) * width / len(source.ids))
        shuffled = [
            torch.randperm(len(source.ids), generator=g(*purpose, "permutation", k, r)) for r in range(rounds)
        ]
        columns.append(source.ids[torch.cat(shuffled)[: len(widths) * width]].split(width))
    steps = tuple(torch.cat(parts) for parts in zip(*columns, strict=True))
    return Epoch(steps, tuple(map(len, steps)), sum(map(len, steps)) - max(0, sum(widths) - n))


def _widths(n: int, batch: int, last_batch: str) -> list[int]:
    """Rows of the first source in each step."""
    width = min(batch, n)
    full, rest = divmod(n, width)
    if not rest or last_batch == "drop":
        return [width] * full
    if last_batch == "complete":
        return [width] * (full + 1)
    # BatchNorm has no spread to divide by in a batch of one image.
    return [width] * (full - 1) + ([width + 1] if rest == 1 else [width, rest])


def rows_to_keep(net: Network, head_rows: tuple[int, int] | None) -> list[tuple[Tensor, Tensor, int, int]]:
    """The head's parameters, their values now, and the rows [start, stop) that train; nothing where all do.

    Zero gradient does not freeze a row: weight decay and momentum still move it. So the others are put back
    after every step.
    """
    if head_rows is None:
        return []
    return [(rows, rows.detach().clone(), *head_rows) for rows in net.head.rows()]  # type: ignore[operator]
