"""The rows that runs answered right, from the table `classes`, read for many runs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.lake.results import Results
from analysis.selection.posterior import Index

COLUMNS = ("run", "split", "primary", "after_task", "class_name", "n", "correct_rows")
READ_BY_NAME = 64  # runs that are read by name
READ_TOGETHER = 4096  # runs that are read together: some 50 MB


@dataclass(frozen=True)
class Answers:
    """Rows of the table `classes`: classes seen after a task. Those of a run are beside each other."""

    runs: Mapping[str, slice]
    after: Index
    name: Index  # equal for equal names of a class
    n: Index
    first: Index  # byte of `bits` at which the right answers begin; -1 where they are not known
    bits: NDArray[np.uint8]  # right answers, packed

    def of(self, runs: Sequence[str]) -> tuple[Index, Index]:
        """Return the rows of some runs, and for each the place of its run among them."""
        parts = [self.runs[run] for run in runs]
        rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])
        return rows, np.repeat(np.arange(len(parts)), [part.stop - part.start for part in parts])


@dataclass
class RightAnswers:
    """Answers of groups of runs that will be asked for in turn, on one split by the primary classifier."""

    results: Results
    split: str
    groups: Sequence[Sequence[str]] = ()
    _known: Answers | None = field(default=None, repr=False)

    def of(self, runs: Sequence[str]) -> Answers | None:
        """Return answers with those of some runs, of which one group is `runs`; None where a run has none."""
        if self._known is None or not set(runs) <= set(self._known.runs):
            wanted = dict.fromkeys(runs)
            for group in self.groups[self.groups.index(runs) + 1 :] if runs in self.groups else ():
                if len(wanted) + len(group) > READ_TOGETHER:
                    break
                wanted |= dict.fromkeys(group)
            self._known = None  # not two of them in memory
            self._known = _read(self.results, list(wanted), self.split)
        return self._known if set(runs) <= set(self._known.runs) else None


def _read(results: Results, runs: Sequence[str], split: str) -> Answers:
    most = len(runs) > READ_BY_NAME and 2 * len(runs) > len(results.runs)  # to name so many takes longer
    found = results.rows("classes", None if most else runs, COLUMNS, ordered=False)
    found = found.filter(pc.and_(pc.equal(found["split"], split), found["primary"]))
    codes, names = _encoded(found["run"])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    packed = found["correct_rows"].combine_chunks().cast(pa.binary())  # without types where all are missing
    start = np.frombuffer(packed.buffers()[1], np.int32)[packed.offset :][: len(packed)].astype(np.int64)
    content = packed.buffers()[2]
    return Answers(
        {run: slice(int(begin), int(end)) for run, begin, end in zip(names, [0, *ends], ends, strict=False)},
        found["after_task"].to_numpy()[order],
        _encoded(found["class_name"])[0][order],
        found["n"].to_numpy()[order],
        np.where(packed.is_valid().to_numpy(zero_copy_only=False), start, -1)[order],
        np.frombuffer(b"" if content is None else content, np.uint8),
    )


def _encoded(column: pa.ChunkedArray) -> tuple[Index, list[str]]:
    """Return each value of a column as its place among the distinct ones, and these."""
    found = pc.dictionary_encode(column.combine_chunks())
    return found.indices.to_numpy().astype(np.int64), found.dictionary.to_pylist()
