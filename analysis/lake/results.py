"""The contents of a run folder: its tables as frames, its study, and the counts behind every figure.

Nothing here needs torch or Ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.lake.study import StudyRecord, read_study
from analysis.lake.tables import read_table
from cl_core.errors import BadRequest, unknown
from cl_core.metrics import count_matrices

AT_ONCE = 64  # runs whose confusion counts are read together


@dataclass
class Results:
    """The tables of one run folder; each frame is read when it is first asked for and then kept.

    `notices` collects one-line remarks on what was read, such as columns that this version does not know.
    """

    folder: Path
    notices: list[str] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict, repr=False)  # what several views work out alike
    _counts: dict[tuple[str, str, str], list[NDArray[np.int64]]] = field(default_factory=dict, repr=False)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run that has ended."""
        return self.read("runs")

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a run and task."""
        return self.read("tasks")

    @cached_property
    def phases(self) -> pd.DataFrame:
        """One row a run, task, phase, epoch and loss term."""
        return self.read("phases")

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row a run, split, task, classifier and class."""
        return self.read("classes")

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """One row a run, split, task, classifier, true class and answer; can be large: see `confusions`."""
        return self.read("confusion")

    @cached_property
    def study(self) -> StudyRecord:
        """The study of `study.yaml`; an empty one where there is no file. Raises BadRequest when damaged."""
        return read_study(self.folder) or StudyRecord()

    @cached_property
    def labels(self) -> list[str]:
        """The labels that have runs, in the study's order; those that it does not name come last."""
        return _ordered(self.study.labels, self.runs["label"])

    @cached_property
    def scenarios(self) -> list[str]:
        """The scenarios that have runs, in the study's order; those that it does not name come last."""
        return _ordered(self.study.scenarios, self.runs["scenario"])

    def read(self, table: str, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """A table's rows, of some runs or all; see `tables.read_table`."""
        return read_table(self.folder, table, runs, self._notice)

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """(data set, scenario) of every value of the column `scenario`; the two differ over several runs."""
        known = self.runs.drop_duplicates("scenario")
        return {str(s): (str(d), str(s)) for s, d in zip(known["scenario"], known["dataset"], strict=True)}

    @cached_property
    def weights(self) -> dict[str, str]:
        """Cell -> the file of the weights that its networks begin from; without cells that draw them."""
        known = self.runs.drop_duplicates("cell")
        pairs = zip(known["cell"].astype(str), known["label"].astype(str), strict=True)
        files = {cell: self.study.initial_weights(label) for cell, label in pairs}
        return {cell: file for cell, file in files.items() if file is not None}

    def row(self, run: str) -> dict[str, Any]:
        """The `runs` row of one run. Raises BadRequest when there is none."""
        rows = self.runs[self.runs["run"] == run]
        if rows.empty:
            raise unknown("run", run, self.runs["run"])
        return {str(k): v for k, v in rows.iloc[0].items()}

    def sizes(self, run: str) -> tuple[int, ...]:
        """Classes of every task of a run (perhaps its scenario's first); while it runs, of those so far."""
        if run not in self._splits:
            rows = self.read("tasks", [run])
            if rows.empty:
                raise unknown("run", run, self.runs["run"])
            return tuple(int(n) for n in rows.sort_values("task")["classes"])
        base, later, tasks = self._splits[run]
        try:
            return (int(base), *(int(n) for n in later.split(",") if n.strip()))[: tasks or None]
        except ValueError as error:
            raise BadRequest(f"increments of {run} must read like '2,2,2', not {later!r}") from error

    @cached_property
    def _splits(self) -> dict[str, tuple[int, str, int]]:
        """Run -> classes of its scenario's first task, of the later ones as text, and tasks of the run."""
        names = ("run", "base", "increments", "tasks")
        rows = zip(*(self.runs[name] for name in names), strict=True)
        return {str(run): (base, str(later), int(tasks)) for run, base, later, tasks in rows}

    def classifiers(self, run: str, split: str) -> list[str]:
        """The rules that answered in a run on `split`, the primary one first.

        Empty when there are no rows.
        """
        rows = self._confusion_of(run)
        mine = (rows["split"] == split).to_numpy()
        known = set(zip(rows["primary"].to_numpy()[mine], rows["classifier"].to_numpy()[mine], strict=True))
        return [str(name) for _, name in sorted((not primary, name) for primary, name in known)]

    def confusions(self, run: str, split: str, classifier: str | None = None) -> list[NDArray[np.int64]]:
        """The counts [seen, seen] after each task of a run, rows true classes; of the primary classifier
        unless named.

        An empty list when nothing was evaluated on `split`. Raises BadRequest on an unknown classifier or
        missing tasks.
        """
        known = self.classifiers(run, split)
        if not known:
            return []
        if classifier is not None and classifier not in known:
            raise unknown("classifier", classifier, known)
        key = (run, split, classifier or known[0])
        if key not in self._counts:
            self._counts[key] = self._matrices(*key)
        return self._counts[key]

    def _matrices(self, run: str, split: str, classifier: str) -> list[NDArray[np.int64]]:
        rows = self._confusion_of(run)
        mine = ((rows["split"] == split) & (rows["classifier"] == classifier)).to_numpy()
        names = ("after_task", "true_class", "predicted_class", "count")
        after, trues, answers, numbers = (rows[name].to_numpy()[mine] for name in names)
        tasks = sorted({int(t) for t in after})
        seen = np.cumsum(self.sizes(run))
        if tasks != list(range(len(tasks))) or len(tasks) > len(seen):
            raise BadRequest(
                f"confusion counts of {run} on {split} cover tasks {tasks}, not 0 and on without a gap"
            )
        outside = (np.minimum(trues, answers) < 0) | (np.maximum(trues, answers) >= seen[after])
        if outside.any():
            task = int(after[outside].min())
            raise BadRequest(
                f"confusion counts of {run} after task {task} name a class outside 0..{seen[task] - 1}"
            )
        return count_matrices(after, trues, answers, numbers, seen[: len(tasks)])

    def fetch(self, runs: Iterable[str]) -> None:
        """Read the confusion counts of runs that will be asked for, many at a time."""
        if "confusion" in self.__dict__:
            return
        wanted = [run for run in dict.fromkeys(map(str, runs)) if run not in self._frames]
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            rows = self.read("confusion", some)
            parts = dict(iter(rows.groupby("run", sort=False)))
            self._frames.update({run: parts.get(run, rows.iloc[:0]) for run in some})

    def _confusion_of(self, run: str) -> pd.DataFrame:
        if "confusion" in self.__dict__:
            return self.confusion[self.confusion["run"] == run]
        if run not in self._frames:
            self._frames[run] = self.read("confusion", [run])
        return self._frames[run]

    @cached_property
    def _frames(self) -> dict[str, pd.DataFrame]:
        return {}


def _ordered(first: Iterable[str], found: pd.Series) -> list[str]:
    present = {str(name) for name in found}
    return [name for name in dict.fromkeys(first) if name in present] + sorted(present - set(first))
