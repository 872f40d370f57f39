"""The accuracy matrices of many runs, from the right answers of the table `classes`.

They are those of the table `accuracy_matrix`, which is made of the confusion counts: eight times the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cl_core.metrics import Matrix

ACCURACIES = """
    select run, split, after_task, task, sum(n)::bigint as n, sum(correct) / nullif(sum(n), 0) as accuracy
    from classes where "primary" group by all"""
"""The query of every R[t][k], over n rows."""


@dataclass(frozen=True)
class Accuracies:
    """R[t][k] of one run and split by the primary classifier, and the rows behind each; [T, T] both."""

    matrix: Matrix  # nan above the diagonal, and without rows
    rows: Matrix  # 0 above the diagonal

    def first(self, tasks: int | None) -> Accuracies:
        """Those of the first tasks alone."""
        return Accuracies(self.matrix[:tasks, :tasks], self.rows[:tasks, :tasks])


def accuracies_by_run(found: pa.Table) -> dict[tuple[str, str], Accuracies]:
    """Return run, split -> accuracies, from the columns run, split, after_task, task, n and accuracy."""
    if not len(found):
        return {}
    codes, names = np.zeros(len(found), dtype=np.int64), []
    for name in ("run", "split"):
        column = pc.dictionary_encode(found[name].combine_chunks())
        codes = codes * len(column.dictionary) + column.indices.to_numpy()
        names.append(column.dictionary.to_pylist())
    known, place = np.unique(codes, return_inverse=True)
    after, task = (found[name].to_numpy() for name in ("after_task", "task"))
    shape = (len(known), int(after.max()) + 1, int(after.max()) + 1)
    matrix, rows = np.full(shape, np.nan), np.zeros(shape)
    matrix[place, after, task] = pc.fill_null(found["accuracy"], float("nan")).to_numpy()
    rows[place, after, task] = found["n"].to_numpy()
    last = np.zeros(len(known), dtype=np.int64)
    np.maximum.at(last, place, after)
    out = {}
    for at, code in enumerate(known):
        run, split = divmod(int(code), len(names[1]))
        whole = Accuracies(matrix[at], rows[at])
        out[names[0][run], names[1][split]] = whole.first(int(last[at]) + 1)
    return out
