"""Covariance of the errors that finitely many rows leave in the values of several runs.

All runs are measured on the same validation rows. Each row is answered right or wrong after each task, and a
metric is a weighted sum of these answers. Over other rows of the same classes two values would vary together
as far as their runs answer the same rows right. The covariance of two sums over n rows of a class is n times
that between rows; rows of different classes are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.selection.posterior import Floats, Index

COLUMNS = ("run", "split", "primary", "after_task", "class_name", "n", "correct_rows")
AT_ONCE = 64  # runs whose right answers are unpacked together

WEIGHTS: Mapping[str, Callable[[int], Floats]] = {
    "average_incremental_accuracy": lambda tasks: np.full(tasks, 1 / tasks),
    "average_incremental_accuracy_without_first": lambda tasks: np.array(
        [0.0] + [1 / (tasks - 1)] * (tasks - 1)
    ),
    "last_accuracy": lambda tasks: np.array([0.0] * (tasks - 1) + [1.0]),
}
"""Metrics that are a sum over the answers: the weight of the accuracy after each of some tasks."""


def row_covariance(results: Results, runs: Sequence[str], split: str, metric: str) -> Floats | None:
    """Return [n, n], the covariance of the errors of a metric in n runs of one cell, measured on `split`.

    None where the metric is no sum over answers, a run lacks its right answers row by row, or the runs were
    measured on other numbers of rows of a class.
    """
    if metric not in WEIGHTS:
        return None
    frame = results.read("classes", runs, COLUMNS)
    frame = frame[(frame["split"] == split) & frame["primary"]]
    if frame["correct_rows"].isna().any() or not set(runs) <= set(frame["run"].unique()):
        return None
    names, known = pd.factorize(frame["class_name"], sort=True)
    counts = frame["n"].to_numpy()
    rows = np.zeros(len(known), dtype=np.int64)
    rows[names] = counts
    if (counts != rows[names]).any():
        return None
    ends = np.cumsum(rows)
    starts = (ends - rows)[names]
    codes, found = pd.factorize(frame["run"])
    number = np.array([runs.index(run) for run in found])[codes]
    shares = np.zeros((len(runs), int(ends[-1])))
    for first in range(0, len(runs), AT_ONCE):
        mine, some = (number >= first) & (number < first + AT_ONCE), shares[first : first + AT_ONCE]
        some[:] = _shares(frame[mine], number[mine] - first, starts[mine], metric, some.shape)
    return covariance(shares, [slice(end - n, end) for n, end in zip(rows, ends, strict=True)])


def covariance(shares: Floats, classes: Iterable[slice]) -> Floats:
    """Return [n, n], the covariance of n sums over rows. `shares` is [n, rows]: what a row adds to each."""
    out = np.zeros((len(shares), len(shares)))
    for rows in classes:
        mine = shares[:, rows]
        apart = mine - mine.mean(axis=1, keepdims=True)
        count = mine.shape[1]
        out += apart @ apart.T * (count / max(count - 1, 1))
    return out


def _shares(classes: pd.DataFrame, run: Index, start: Index, metric: str, shape: tuple[int, int]) -> Floats:
    """Return [n, rows], what each row adds to the metric of a run: zero after a task that answers it wrong.

    `run` and `start` tell the run of each row of `classes`, and where the rows of its class begin.
    """
    after = classes.groupby([run, classes["after_task"].to_numpy()])["n"].transform("sum").to_numpy()
    tasks = classes.groupby(run)["after_task"].transform("max").to_numpy() + 1
    table = np.zeros((tasks.max() + 1, tasks.max()))
    for many in np.unique(tasks):
        table[many, :many] = WEIGHTS[metric](int(many))
    weight = table[tasks, classes["after_task"]]
    counts, bits = classes["n"].to_numpy(), classes["correct_rows"].to_numpy()
    out = np.zeros(shape[0] * shape[1])
    for n in np.unique(counts):
        mine = counts == n
        right = np.unpackbits(np.frombuffer(b"".join(bits[mine]), np.uint8).reshape(mine.sum(), -1), axis=1)
        places = (run[mine] * shape[1] + start[mine])[:, None] + np.arange(n)
        adds = right[:, :n] * (weight / after)[mine, None]
        out += np.bincount(places.ravel(), adds.ravel(), len(out))
    return out.reshape(shape)
