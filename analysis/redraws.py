"""Who would have won a cell's search had chance fallen otherwise: other configurations drawn, other
validation rows, other class orders. Everything is plain arrays; larger values are better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cl_core.metrics import Counts, summary

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Redrawn:
    """`another`: how likely another configuration wins; `worse`: one that is more than `margin` below the
    winner; `loss`: how far below it the one that wins lies on average, all by the values first measured."""

    another: float
    worse: float
    loss: float


def by_draw(values: Array, ended: int, margin: float) -> Redrawn:
    """Redraws of all `ended` configurations with replacement, exactly; `values` [n >= 1] are those of the
    completed ones, the others never win, and draws without a completed one are left out.

    The i-th best (i = 1, ...) is the best of a redraw with probability ((N-i+1)/N)^N - ((N-i)/N)^N.
    """
    ordered = np.sort(values)[::-1]
    rank = np.arange(1, len(ordered) + 1)
    wins = ((ended - rank + 1) / ended) ** ended - ((ended - rank) / ended) ** ended
    return _redrawn(wins / wins.sum(), ordered, 0, margin)


def by_noise(values: Array, errors: Array, margin: float, draw: np.random.Generator, draws: int) -> Redrawn:
    """Values measured anew: `values` [n] with independent normal errors of the standard errors `errors`
    [n]."""
    again = values + errors * draw.standard_normal((draws, len(values)))
    return _winners(again, values, margin)


def by_order(groups: Array, worst: bool, margin: float, draw: np.random.Generator, draws: int) -> Redrawn:
    """Class orders redrawn with replacement, the same ones for all configurations; `groups` [n, orders] holds
    a configuration's value on each."""
    picked = draw.integers(0, groups.shape[1], (draws, groups.shape[1]))
    again = np.stack([_over(groups[:, one], worst) for one in picked])
    return _winners(again, _over(groups, worst), margin)


def order_errors(groups: Array) -> Array:
    """[n]: the standard error of each configuration's mean over its class orders; `groups` [n, orders]."""
    out: Array = groups.std(axis=1, ddof=1) / np.sqrt(groups.shape[1])
    return out


def row_error(
    confusions: Sequence[Counts], sizes: Sequence[int], metric: str, draw: np.random.Generator, draws: int
) -> float | None:
    """The standard deviation of a metric over redraws of a run's validation rows; None where it is
    undefined.

    `confusions` are the counts [seen, seen] after each task. Counts do not tell which rows are right, and the
    same rows are asked after every task: a redraw gives each row of a class one difficulty, uniform in
    (0, 1), for all tasks, and it is right after a task where that lies below the class's accuracy then.
    Rows that are right after one task are so as often as they can be after another.
    """
    rows = np.asarray(confusions[-1]).sum(axis=1)
    classes = [len(c) for c in confusions]
    known = np.zeros((len(confusions), len(rows)))  # accuracy on each class after each task
    for task, c in enumerate(confusions):
        known[task, : len(c)] = np.diag(c) / np.maximum(np.asarray(c).sum(axis=1), 1)
    found: list[float] = []
    for _ in range(draws):
        correct = np.stack(
            [np.searchsorted(np.sort(draw.random(int(n))), known[:, c]) for c, n in enumerate(rows)], axis=1
        )
        counts = []
        for task, seen in enumerate(classes):
            again = np.diag(correct[task, :seen])
            if seen > 1:
                again[np.arange(seen), (np.arange(seen) + 1) % seen] += rows[:seen] - correct[task, :seen]
            counts.append(again)
        value = summary(counts, sizes).get(metric)
        if value is None:
            return None
        found.append(value)
    return float(np.std(found, ddof=1))


def _over(groups: Array, worst: bool) -> Array:
    out: Array = groups.min(axis=1) if worst else groups.mean(axis=1)
    return out


def _winners(again: Array, values: Array, margin: float) -> Redrawn:
    """Who wins in each row of `again` [draws, n], judged by `values` [n]."""
    counts = np.bincount(again.argmax(axis=1), minlength=len(values))
    return _redrawn(counts / len(again), values, int(values.argmax()), margin)


def _redrawn(wins: Array, values: Array, winner: int, margin: float) -> Redrawn:
    lost = values[winner] - values
    return Redrawn(float(1 - wins[winner]), float(wins[lost > margin].sum()), float(wins @ lost))
