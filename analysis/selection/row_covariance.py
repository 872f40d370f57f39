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
from analysis.selection.posterior import Floats
from cl_core.records import unpack_rows

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
    frame = results.read("classes", runs)
    frame = frame[(frame["split"] == split) & frame["primary"]]
    found = dict(iter(frame.groupby("run", sort=False)))
    if frame["correct_rows"].isna().any() or not set(runs) <= set(found):
        return None
    rows = frame.groupby("class_name")["n"].max()
    if (frame["n"] != frame["class_name"].map(rows)).any():
        return None
    ends = rows.cumsum()
    places = {str(name): slice(end - n, end) for name, n, end in zip(rows.index, rows, ends, strict=True)}
    shares = np.stack([_shares(found[run], places, metric) for run in runs])
    return covariance(shares, places.values())


def covariance(shares: Floats, classes: Iterable[slice]) -> Floats:
    """Return [n, n], the covariance of n sums over rows. `shares` is [n, rows]: what a row adds to each."""
    out = np.zeros((len(shares), len(shares)))
    for rows in classes:
        mine = shares[:, rows]
        apart = mine - mine.mean(axis=1, keepdims=True)
        count = mine.shape[1]
        out += apart @ apart.T * (count / max(count - 1, 1))
    return out


def _shares(classes: pd.DataFrame, places: Mapping[str, slice], metric: str) -> Floats:
    """Return [rows], what each row adds to the metric of a run: zero after a task that answers it wrong."""
    after = classes.groupby("after_task")["n"].sum()
    weights = WEIGHTS[metric](len(after)) / after.to_numpy()
    out = np.zeros(max(place.stop for place in places.values()))
    columns = (classes[name] for name in ("after_task", "class_name", "n", "correct_rows"))
    for task, name, n, bits in zip(*columns, strict=True):
        out[places[name]] += weights[task] * unpack_rows(bits, n)
    return out
