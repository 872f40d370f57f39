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
    return _errors(matrix, rows, (*METRICS, "plasticity"))


def error_of(metric: str, known: Accuracies) -> float:
    """The standard error of one metric of METRICS, as in `errors`, from the accuracies of a run."""
    return _errors(known.matrix, known.rows[-1], (metric,))[metric]


def _errors(matrix: Matrix, rows: Matrix, names: Sequence[str]) -> dict[str, float]:
    """The standard error of some metrics, from R [T, T] and the rows of each task [T]."""
    if not np.isfinite(matrix[np.tril_indices(len(matrix))]).all():
        return dict.fromkeys(names, 0.0)
    weight = weights(matrix, rows)
    together = _together(matrix, rows, np.cumsum(rows)[:, None])
    out = {name: _error(weight[name], together) for name in names}
    if "old_new_gap" in out:
        old = np.full(len(matrix) - 1, rows[:-1].sum())  # the gap's two shares are of other rows
        out["old_new_gap"] = _error(weight["old_new_gap"], _together(matrix, rows, np.append(old, rows[-1])))
    return out


def _together(matrix: Matrix, rows: Matrix, asked: Matrix) -> Matrix:
    """The covariances [task, after, after] of each task's accuracies, a part of a share of `asked` rows."""
    p = ((np.nan_to_num(matrix) * asked + 1) / (asked + 2)).T  # [task, after]
    out: Matrix = np.minimum(p[:, :, None], p[:, None, :]) - p[:, :, None] * p[:, None]
    return out / rows[:, None, None]


def _error(weight: Matrix, together: Matrix) -> float:
    """Of a sum of accuracies, by `_together`."""
    w = weight.T
    return float(np.sqrt((np.maximum(w[:, :, None] * w[:, None, :], 0.0) * together).sum()))


def weights(matrix: Matrix, rows: Matrix) -> dict[str, Matrix]:
    """The weight [T, T] of each accuracy R[t][k] in every metric, which is the sum of their products.

    `matrix` is R [T, T], `rows` [T] the rows of each task. A metric that needs two tasks weighs nothing with
    one.
    """
    n = len(matrix)
    pooled = np.tril(np.broadcast_to(rows, (n, n)))
    pooled = pooled / pooled.sum(axis=1, keepdims=True)
    even = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    right_after, later = np.eye(n), max(1, n - 1)
    newer = np.arange(n)[:, None] > 0
    end = np.arange(n)[:, None] == n - 1
    first = np.zeros((n, n))
    first[0, 0] = 1.0
    old = np.zeros((n, n))  # the accuracies on older tasks at the end, each weighing the same
    old[-1, :-1] = 1.0 / later
    best = np.zeros((n, n))
    for task in range(n - 1):
        best[task + int(np.argmax(matrix[task : n - 1, task])), task] = 1.0 / later
    before = np.where(right_after > 0, 1.0 / later, 0.0)
    before[-1, -1] = 0.0
    gap = np.zeros((n, n))
    if n > 1:
        gap[-1, -1] = 1.0
        gap[-1, :-1] = -rows[:-1] / rows[:-1].sum()
        gap *= 1.0 if np.nansum(gap * matrix) >= 0 else -1.0
    return {
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
