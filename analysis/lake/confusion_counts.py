"""The confusion counts of many runs in memory, by run, split and classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

KEYS = ("run", "split", "classifier", "primary")
COUNTS = ("after_task", "true_class", "predicted_class", "count")


@dataclass(frozen=True)
class ConfusionCounts:
    """The rows of one run in the table `confusion`."""

    columns: NDArray[np.int32]  # COUNTS, [4, rows]
    groups: dict[tuple[str, str, bool], slice]  # split, classifier, primary -> rows

    def classifiers(self, split: str) -> list[str]:
        """The rules that answered on `split`, the primary one first."""
        return [name for _, name in sorted((not own, name) for at, name, own in self.groups if at == split)]

    def of(self, split: str, classifier: str) -> list[NDArray[np.int64]]:
        """The columns COUNTS of a classifier on a split."""
        parts = [rows for (at, name, _), rows in self.groups.items() if (at, name) == (split, classifier)]
        return [np.concatenate([c[rows] for rows in parts]).astype(np.int64) for c in self.columns]


def counts_by_run(rows: pa.Table, runs: Sequence[str]) -> dict[str, ConfusionCounts]:
    """Part rows of the table `confusion` by run; a run without rows has no groups."""
    columns = np.array([rows[name].to_numpy() for name in COUNTS], dtype=np.int32)
    codes, texts = np.zeros(len(rows), dtype=np.int64), []
    for name in KEYS:
        column = pc.dictionary_encode(rows[name].combine_chunks())
        codes = codes * max(1, len(column.dictionary)) + column.indices.to_numpy()
        texts.append(column.dictionary.to_pylist())
    order = np.argsort(codes, kind="stable")
    columns, codes = columns[:, order], codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    found: dict[str, dict[tuple[str, str, bool], slice]] = {}
    for start, end in zip(starts, [*starts[1:], len(codes)][: len(starts)], strict=True):
        code, values = int(codes[start]), []
        for known in reversed(texts):
            code, at = divmod(code, len(known))
            values.append(known[at])
        own, classifier, split, run = values
        found.setdefault(run, {})[split, classifier, own] = slice(int(start), int(end))
    return {run: _part(columns, found.get(run, {})) for run in runs}


def _part(columns: NDArray[np.int32], groups: dict[tuple[str, str, bool], slice]) -> ConfusionCounts:
    """Copy the rows of a run, which are beside each other."""
    first = min((rows.start for rows in groups.values()), default=0)
    last = max((rows.stop for rows in groups.values()), default=0)
    moved = {key: slice(rows.start - first, rows.stop - first) for key, rows in groups.items()}
    return ConfusionCounts(columns[:, first:last].copy(), moved)
