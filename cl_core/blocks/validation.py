"""Validation images of BiC: equally many of every class, taken from the budget of exemplars."""

from __future__ import annotations

import torch

from cl_core.blocks.exemplars import rank
from cl_core.images.view import View
from cl_core.memory import Budget, Memory
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task


def images_a_class(validation: Memory) -> int:
    """Return the number v of validation images that every class has."""
    return min(map(len, validation.rows.values()))


def draw_validation(
    validation: Memory, data: View, classes: range, share: float, most: int, g: Streams
) -> None:
    """Draw a share of the rows of each class into `validation`: at least one, at most `most`."""
    for c in classes:
        rows = data.rows([c])
        held = rows[torch.randperm(len(rows), generator=g("held", c))]
        validation.rows[c] = held[: min(most, _share_of(len(rows), share))]


def divide_budget(budget: Budget, share: float, s: State, data: View, task: Task, g: Streams) -> None:
    """Divide the budget after a task: v validation images of every class, and exemplars in the rest.

    Validation images of the first task are drawn here, since the task trained on all of its rows.
    """
    counts, validation = budget.counts(task.seen, data.image_bytes), s.memories["validation"]
    most = _share_of(min(counts.values()), share)
    if not task.index:
        draw_validation(validation, data, range(task.seen), share, most, g)
    v = min(most, images_a_class(validation))
    for c, count in counts.items():
        if c < task.old:
            # A dropped validation image may fill a place that rounding leaves free.
            ranked = torch.cat([s.memory.rows[c], validation.rows[c][v:]])
        else:
            rows = data.rows([c])
            free = rows[~torch.isin(rows, validation.rows[c][:v])]
            ranked = rank(budget, s.net, data, free, count - v, g("exemplars", c))
        s.memory.rows[c] = ranked[: count - v]
    validation.keep(dict.fromkeys(counts, v))


def _share_of(rows: int, share: float) -> int:
    return max(1, int(share * rows))
