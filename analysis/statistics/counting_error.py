"""The error that counting leaves in every metric: accuracies are shares of finitely many rows.

A share k of N rows has the variance p (1 - p) / N with p = (k + 1) / (N + 2), so that a share of none or all
is not certain and the error is never below half a row (Agresti & Caffo, The American Statistician 54, 2000).
The rows of a task are asked again after every later task. How often the same ones are right is not
kept, so two answers count as right together as often as they can be where a metric adds them, and as
independent where it subtracts them: for answers that agree at least as often as chance, the error is an upper
bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.lake.accuracies import Accuracies
from cl_core.metrics import METRICS, Counts, Matrix, accuracy_matrix, summary

TOGETHER = 256  # runs whose errors are worked out together


@dataclass(frozen=True)
class Counted:
    """A number of one run, with the standard error of its counts; 0 for what is no share of rows."""

    value: float | None
    error: float = 0.0


def counted(confusions: Sequence[Counts], sizes: Sequence[int]) -> dict[str, Counted]:
    """Every metric of a run with its error; `confusions` are the counts [seen, seen] after each task."""
    known = errors(confusions, sizes)
    return {name: Counted(value, known[name]) for name, value in summary(confusions, sizes).items()}


def share(value: float, rows: float) -> float:
    """The standard error of a share of `rows` rows."""
    p = (value * rows + 1) / (rows + 2)
    return float(np.sqrt(p * (1 - p) / rows)) if rows else 0.0


def luck(rows: int, orders: int) -> float:
    """The difference of two accuracies that chance explains: sqrt(2 p (1 - p) / (rows orders)) at p = 1/2.

    It is one standard error of the difference of two shares of `rows` validation rows, each the mean over
    `orders` class orders. Answers on the same rows agree more often, so the error of a pair is smaller; what
    a class order does to a trial comes on top. Raises ZeroDivisionError without rows.
    """
    return float(np.sqrt(0.5 / (rows * orders)))


def errors(confusions: Sequence[Counts], sizes: Sequence[int]) -> dict[str, float]:
    """The standard error of every metric of METRICS, and of `plasticity`; 0 where a metric is undefined."""
    matrix = accuracy_matrix(confusions, sizes)
    last = np.asarray(confusions[-1]).sum(axis=1)
    ends = np.cumsum(sizes)[: len(matrix)]
    rows = np.array([group.sum() for group in np.split(last, ends[:-1])], dtype=np.float64)
    if not _known(matrix):
        return dict.fromkeys((*METRICS, "plasticity"), 0.0)
    return {name: float(error[0]) for name, error in _errors(matrix[None], rows[None]).items()}


def errors_of(metric: str, known: Sequence[Accuracies | None]) -> list[float]:
    """The standard error of one metric of METRICS, as in `errors`, in n runs by their accuracies.

    0 where a run has none.
    """
    out = [0.0] * len(known)
    alike: dict[int, list[int]] = {}
    for at, one in enumerate(known):
        if one is not None and _known(one.matrix):
            alike.setdefault(len(one.matrix), []).append(at)
    for many in alike.values():
        for first in range(0, len(many), TOGETHER):
            some = many[first : first + TOGETHER]
            chosen = [one for at in some if (one := known[at]) is not None]
            found = _errors(
                np.stack([one.matrix for one in chosen]), np.stack([one.rows[-1] for one in chosen]), metric
            )
            for at, error in zip(some, found[metric], strict=True):
                out[at] = float(error)
    return out


def _known(matrix: Matrix) -> bool:
    """Tell whether every accuracy of a run is known."""
    return bool(np.isfinite(matrix[np.tril_indices(len(matrix))]).all())


def _errors(matrix: Matrix, rows: Matrix, only: str = "") -> dict[str, Matrix]:
    """The standard error [n] of every metric or one, from R [n, T, T] and the rows of each task [n, T]."""
    weight = weights(matrix, rows)
    together = _together(matrix, rows, np.cumsum(rows, axis=1)[:, :, None])
    out = {name: _error(weight[name], together) for name in ([only] if only else weight)}
    if "old_new_gap" in out:  # its two shares are of other rows
        asked = np.broadcast_to(rows[:, :-1].sum(axis=1, keepdims=True), rows[:, :-1].shape)
        own = _together(matrix, rows, np.concatenate([asked, rows[:, -1:]], axis=1)[:, None])
        out["old_new_gap"] = _error(weight["old_new_gap"], own)
    return out


def _together(matrix: Matrix, rows: Matrix, asked: Matrix) -> Matrix:
    """The covariances [n, task, after, after] of each task's accuracies, parts of shares of `asked` rows."""
    p = np.swapaxes((np.nan_to_num(matrix) * asked + 1) / (asked + 2), 1, 2)  # [n, task, after]
    out: Matrix = np.minimum(p[..., :, None], p[..., None, :]) - p[..., :, None] * p[..., None, :]
    return out / rows[:, :, None, None]


def _error(weight: Matrix, together: Matrix) -> Matrix:
    """The error [n] of sums of accuracies, by `_together`."""
    w = np.swapaxes(weight, 1, 2)
    out: Matrix = np.sqrt((np.maximum(w[..., :, None] * w[..., None, :], 0.0) * together).sum(axis=(1, 2, 3)))
    return out


def weights(matrix: Matrix, rows: Matrix) -> dict[str, Matrix]:
    """The weight [n, T, T] of each accuracy R[t][k] in every metric, which is the sum of their products.

    `matrix` is R [n, T, T], `rows` [n, T] the rows of each task. A metric that needs two tasks weighs nothing
    with one.
    """
    runs, n = rows.shape
    pooled = np.tril(np.broadcast_to(rows[:, None], (runs, n, n)))
    pooled = pooled / pooled.sum(axis=2, keepdims=True)
    even = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    right_after, later = np.eye(n), max(1, n - 1)
    newer = np.arange(n)[:, None] > 0
    end = np.arange(n)[:, None] == n - 1
    first = np.zeros((n, n))
    first[0, 0] = 1.0
    old = np.zeros((n, n))  # the accuracies on older tasks at the end, each weighing the same
    old[-1, :-1] = 1.0 / later
    best, every = np.zeros((runs, n, n)), np.arange(runs)
    for task in range(n - 1):
        best[every, task + np.argmax(matrix[:, task : n - 1, task], axis=1), task] = 1.0 / later
    before = np.where(right_after > 0, 1.0 / later, 0.0)
    before[-1, -1] = 0.0
    gap = np.zeros((runs, n, n))
    if n > 1:
        gap[:, -1, -1] = 1.0
        gap[:, -1, :-1] = -rows[:, :-1] / rows[:, :-1].sum(axis=1, keepdims=True)
        gap *= np.where(np.nansum(gap * matrix, axis=(1, 2)) >= 0, 1.0, -1.0)[:, None, None]
    found = {
        "average_incremental_accuracy": pooled / n,
        "average_incremental_accuracy_without_first": newer * pooled / later,
        "average_incremental_accuracy_task_mean": even / n,
        "first_task_accuracy": first,
        "last_accuracy": end * pooled,
        "last_accuracy_task_mean": end * even,
        "forgetting": best - old,
        "backward_transfer": old - before,
        "old_new_gap": gap,
        "plasticity": newer * right_after / later,
    }
    return {name: np.broadcast_to(weight, (runs, n, n)) for name, weight in found.items()}
