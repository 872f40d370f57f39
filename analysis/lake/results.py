"""The contents of a run folder: its tables as frames, its study, and the counts behind every figure.

Nothing here needs torch or Ray.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analysis.lake.accuracies import ACCURACIES, Accuracies, accuracies_by_run
from analysis.lake.confusion_counts import COUNTS, KEYS, ConfusionCounts, counts_by_run
from analysis.lake.queries import Database
from analysis.lake.relation import Relation, connect, frame
from analysis.lake.run_folder import COPY_OF, table_folder
from analysis.lake.study import StudyRecord, read_study
from analysis.lake.tables import among, read_table, scan, steadily
from cl_core.errors import BadRequest, unknown
from cl_core.metric_queries import QUERIES
from cl_core.metrics import count_matrices
from cl_core.records import TABLES

READ_ALONE = 16  # runs whose accuracies are read by themselves, before those of all are
KEPT = 1024  # runs, splits and classifiers whose count matrices stay in memory


@dataclass
class Results:
    """The tables of one run folder.

    `table` and `query` give rows that are not read yet. The frames `runs`, `tasks`, ... are read when they
    are first used and then kept. Integers and booleans that may be missing are `Int64` and `boolean` there.
    `notices` collects one-line remarks on what was read, such as columns that this version does not know.
    """

    folder: Path
    notices: list[str] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict, repr=False)  # what several views work out alike
    _counts: OrderedDict[tuple[str, str, str], list[NDArray[np.int64]]] = field(
        default_factory=OrderedDict, repr=False
    )
    _accuracies: dict[tuple[str, str], Accuracies] = field(default_factory=dict, repr=False)
    _measured: set[str] = field(default_factory=set, repr=False)
    _fetched: dict[str, ConfusionCounts] = field(default_factory=dict, repr=False)

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
    def place(self) -> str:
        """The run folder as commands take it: its path; of a copy, the URL in an object store."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((self.folder / COPY_OF).read_text(encoding="utf-8"))["url"])
        return str(self.folder)

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

    def read(
        self, table: str, runs: Iterable[str] | None = None, columns: Sequence[str] = ()
    ) -> pd.DataFrame:
        """A table's rows, of some runs or all, with some columns or all; see `tables.read_table`."""
        return frame(self.rows(table, runs, columns))

    def rows(
        self,
        table: str,
        runs: Iterable[str] | None = None,
        columns: Sequence[str] = (),
        ordered: bool = True,
    ) -> pa.Table:
        """As `read`, an Arrow table; in any order unless `ordered`, which is quicker."""
        wanted = None if runs is None else set(runs)
        scan = partial(self.scan, self.connection, table, wanted)
        return read_table(scan, self.folders_of(table), columns, ordered)

    def table(self, name: str, runs: Iterable[str] | None = None) -> Relation:
        """The rows of a table, or of one of `metric_queries.QUERIES`, that are not read yet.

        `runs` keeps those of some runs. Raises BadRequest on an unknown table.
        """
        if name not in TABLES and name not in QUERIES:
            raise unknown("table", name, [*TABLES, *QUERIES])
        if name in TABLES:
            return Relation(self.scan(self.connection, name, runs))
        return self.query(f"select * from {name}", runs)

    def query(self, sql: str, runs: Iterable[str] | None = None) -> Relation:
        """The rows of a query in SQL over the tables and `metric_queries.QUERIES`, not read yet.

        `runs` narrows all of them. Raises BadRequest where `sql` is no query over them.
        """
        return (self._database if runs is None else self._database_of(list(runs))).query(sql)

    @cached_property
    def _database(self) -> Database:
        return self._database_of(None)

    def _database_of(self, runs: Sequence[str] | None) -> Database:
        known = self.runs[["run", "base", "increments"]].drop_duplicates(["base", "increments"])
        splits = {
            (int(base), str(later)): self._all_sizes(str(run), int(base), str(later))
            for run, base, later in known.itertuples(index=False)
        }
        return Database(lambda at, name: self.scan(at, name, runs), splits, self.folders_of("confusion"))

    def folders_of(self, table: str) -> list[Path]:
        """The folders with the files of a table."""
        return [table_folder(self.folder, table)]

    def scan(
        self, connection: duckdb.DuckDBPyConnection, table: str, runs: Iterable[str] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """The rows of a table in a database; see `tables.scan`. A frame in memory is not read again."""
        if table in self.__dict__:
            rows = connection.from_arrow(pa.Table.from_pandas(self.__dict__[table], preserve_index=False))
            return rows if runs is None else rows.filter(among(runs))
        return scan(connection, self.folder, table, runs, self._notice)

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The database that reads the tables."""
        return connect()

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
        return self._all_sizes(run, base, later)[: tasks or None]

    def _all_sizes(self, run: str, base: int, later: str) -> tuple[int, ...]:
        try:
            return (int(base), *(int(n) for n in later.split(",") if n.strip()))
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
        self.fetch([run])
        return self._fetched[run].classifiers(split)

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
            if len(self._counts) > KEPT:
                self._counts.popitem(last=False)
        self._counts.move_to_end(key)
        return self._counts[key]

    def _matrices(self, run: str, split: str, classifier: str) -> list[NDArray[np.int64]]:
        after, trues, answers, numbers = self._fetched[run].of(split, classifier)
        tasks = np.unique(after).tolist()
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
        """Read the confusion counts of runs that will be asked for, together."""
        wanted = [run for run in dict.fromkeys(map(str, runs)) if run not in self._fetched]
        if wanted:
            self._fetched.update(counts_by_run(self._confusion(wanted), wanted))

    def accuracies(self, run: str, split: str) -> Accuracies | None:
        """R[t][k] of a run by the primary classifier; None when nothing was evaluated on `split`."""
        self.measure([run])
        return self._accuracies.get((run, split))

    def measure(self, runs: Iterable[str]) -> None:
        """Read the accuracies of runs that will be asked for, together; those of all for more than a few."""
        wanted = [run for run in dict.fromkeys(map(str, runs)) if run not in self._measured]
        if wanted:
            some = wanted if len(self._measured) + len(wanted) <= READ_ALONE else None

            def read() -> pa.Table:
                return self.query(ACCURACIES, some).arrow()

            self._accuracies.update(accuracies_by_run(steadily(self.folders_of("classes"), read)))
            self._measured.update(wanted if some else [*wanted, *self.runs["run"]])

    def _confusion(self, wanted: Sequence[str]) -> pa.Table:
        def read() -> pa.Table:
            return self.table("confusion", wanted).select(*KEYS, *COUNTS).duckdb().to_arrow_table()

        return steadily(self.folders_of("confusion"), read)


def _ordered(first: Iterable[str], found: pd.Series) -> list[str]:
    present = {str(name) for name in found}
    return [name for name in dict.fromkeys(first) if name in present] + sorted(present - set(first))
