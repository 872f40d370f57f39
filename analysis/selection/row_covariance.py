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
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.lake.results import Results
from analysis.selection.posterior import Floats, Index

COLUMNS = ("run", "split", "primary", "after_task", "class_name", "n", "correct_rows")
AT_ONCE = 64  # runs whose right answers are unpacked together


@dataclass(frozen=True)
class Classes:
    """Rows of the table `classes`: classes seen after a task."""

    run: Index
    after: Index
    n: Index
    start: Index  # where the rows of the class begin
    bits: NDArray[np.object_]  # its right answers, packed


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
    found = results.rows("classes", runs, COLUMNS)
    found = found.filter(pc.and_(pc.equal(found["split"], split), found["primary"]))
    codes, seen = _encoded(found["run"])
    if found["correct_rows"].null_count or not set(runs) <= set(seen):
        return None
    names, known = _encoded(found["class_name"])
    after, counts = (found[name].to_numpy() for name in ("after_task", "n"))
    rows = np.zeros(len(known), dtype=np.int64)
    rows[names] = counts
    if (counts != rows[names]).any():
        return None
    ends = np.cumsum(rows)
    starts = (ends - rows)[names]
    places = {run: at for at, run in enumerate(runs)}
    number = np.array([places[run] for run in seen])[codes]
    bits = found["correct_rows"].to_numpy()
    shares = np.zeros((len(runs), int(ends[-1])))
    for first in range(0, len(runs), AT_ONCE):
        mine, some = (number >= first) & (number < first + AT_ONCE), shares[first : first + AT_ONCE]
        classes = Classes(number[mine] - first, after[mine], counts[mine], starts[mine], bits[mine])
        some[:] = _shares(classes, metric, some.shape)
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


def _encoded(column: pa.ChunkedArray) -> tuple[Index, list[str]]:
    """Return each value of a column as its place among the distinct ones, and these."""
    found = pc.dictionary_encode(column.combine_chunks())
    return found.indices.to_numpy().astype(np.int64), found.dictionary.to_pylist()


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
        packed = np.frombuffer(b"".join(classes.bits[mine]), np.uint8).reshape(mine.sum(), -1)
        right = np.unpackbits(packed, axis=1, count=n)
        places = (run[mine] * shape[1] + classes.start[mine])[:, None] + np.arange(n)
        out += np.bincount(places.ravel(), (right * weight[mine, None]).ravel(), len(out))
    return out.reshape(shape)
