"""Covariance of the errors that finitely many rows leave in the values of several runs.

All runs are measured on the same validation rows. Each row is answered right or wrong after each task, and a
metric is a weighted sum of these answers. Over other rows of the same classes two values would vary together
as far as their runs answer the same rows right. The covariance of two sums over n rows of a class is n times
that between rows; rows of different classes are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.selection.posterior import Floats, Index
from analysis.selection.right_answers import RightAnswers

AT_ONCE = 64  # runs whose right answers are unpacked together


@dataclass(frozen=True)
class Classes:
    """Rows of the table `classes`: classes seen after a task."""

    run: Index
    after: Index
    n: Index
    start: Index  # where the rows of the class begin
    first: Index  # byte of `bits` at which its right answers begin
    bits: NDArray[np.uint8]


WEIGHTS: Mapping[str, Callable[[int], Floats]] = {
    "average_incremental_accuracy": lambda tasks: np.full(tasks, 1 / tasks),
    "average_incremental_accuracy_without_first": lambda tasks: np.array(
        [0.0] + [1 / (tasks - 1)] * (tasks - 1)
    ),
    "last_accuracy": lambda tasks: np.array([0.0] * (tasks - 1) + [1.0]),
}
"""Metrics that are a sum over the answers: the weight of the accuracy after each of some tasks."""


def row_covariance(answers: RightAnswers, runs: Sequence[str], metric: str) -> Floats | None:
    """Return [n, n], the covariance of the errors of a metric in n runs of one cell.

    None where the metric is no sum over answers, a run lacks its right answers row by row, or the runs were
    measured on other numbers of rows of a class.
    """
    if metric not in WEIGHTS:
        return None
    found = answers.of(runs)
    if found is None:
        return None
    at, number = found.of(runs)
    after, counts, begin = found.after[at], found.n[at], found.first[at]
    if (begin < 0).any():
        return None
    names = np.unique(found.name[at], return_inverse=True)[1]
    rows = np.zeros(int(names.max()) + 1, dtype=np.int64)
    rows[names] = counts
    if (counts != rows[names]).any():
        return None
    ends = np.cumsum(rows)
    starts = (ends - rows)[names]
    shares = np.zeros((len(runs), int(ends[-1])))
    for first in range(0, len(runs), AT_ONCE):
        some = shares[first : first + AT_ONCE]
        mine = slice(*np.searchsorted(number, (first, first + AT_ONCE)))
        columns = (number[mine] - first, after[mine], counts[mine], starts[mine], begin[mine])
        some[:] = _shares(Classes(*columns, found.bits), metric, some.shape)
    return covariance(shares, [slice(end - n, end) for n, end in zip(rows, ends, strict=True)])


def covariance(shares: Floats, classes: Iterable[slice]) -> Floats:
    """Return [n, n], the covariance of n sums over rows. `shares` is [n, rows]: what a row adds to each."""
    apart = np.zeros_like(shares)
    for rows in classes:
        mine = shares[:, rows]
        count = mine.shape[1]
        apart[:, rows] = (mine - mine.mean(axis=1, keepdims=True)) * np.sqrt(count / max(count - 1, 1))
    out: Floats = apart @ apart.T
    return out


def _shares(classes: Classes, metric: str, shape: tuple[int, int]) -> Floats:
    """Return [n, rows], what each row adds to the metric of a run: zero after a task that got it wrong."""
    run, after = classes.run, classes.after
    tasks = int(after.max()) + 1
    asked = np.bincount(run * tasks + after, classes.n, shape[0] * tasks).reshape(-1, tasks)
    done = np.zeros(shape[0], dtype=np.int64)
    np.maximum.at(done, run, after + 1)
    table = np.zeros((tasks + 1, tasks))
    for many in np.unique(done[run]):
        table[many, :many] = WEIGHTS[metric](int(many))
    weight = table[done[run], after] / asked[run, after]
    out = np.zeros(shape[0] * shape[1])
    for n in np.unique(classes.n):
        mine = classes.n == n
        packed = classes.bits[classes.first[mine, None] + np.arange(-(-n // 8))]
        right = np.unpackbits(packed, axis=1, count=n)
        places = (run[mine] * shape[1] + classes.start[mine])[:, None] + np.arange(n)
        out += np.bincount(places.ravel(), (right * weight[mine, None]).ravel(), len(out))
    return out.reshape(shape)
