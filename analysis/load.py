"""The tables of a run's folder as pandas frames, checked against `cl_core.records`; and whether two folders
are equal.

A table is a folder `tables/<table>/`: an empty `schema.parquet`, one file a trial, and `gathered.parquet`
with the trials that `gather` merged. A trial found in both is taken from its own file. Files whose name
begins with a dot are being written and are not read. Nothing here needs torch or Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from cl_core.errors import BadRequest, unknown
from cl_core.records import SCHEMA_VERSION, SORT, TABLES, Column, columns

VERSION_KEY = b"cl_search_schema_version"
DYNAMIC = ("hp.", "recipe.")  # columns that a study adds
LATER = {
    "trials": ("old_new_gap", "kept_bytes", "audited_after"),
    "stages": ("teacher_agreement",),
}  # columns that runs of an earlier version lack; missing values then
AT_ONCE = 64  # runs whose confusion counts are read together
ARROW: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def file_stem(trial: str) -> str:
    """The name of a trial's file in every table, without `.parquet`."""
    return trial.replace("/", "--").replace(":", "-")


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
    def trials(self) -> pd.DataFrame:
        """One row a run that has ended."""
        return self.read("trials")

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row a trial and task."""
        return self.read("stages")

    @cached_property
    def phases(self) -> pd.DataFrame:
        """One row a trial, task, phase, epoch and loss term."""
        return self.read("phases")

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row a trial, split, task, classifier and class."""
        return self.read("classes")

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """One row a trial, split, task, classifier, true class and answer; can be large: see `confusions`."""
        return self.read("confusion")

    @cached_property
    def study(self) -> dict[str, Any]:
        """What `study.yaml` says, plain values.

        Empty when there is none. Raises BadRequest when it is not readable.
        """
        path = self.folder / "study.yaml"
        if not path.exists():
            return {}
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadRequest(
                f"cannot read {path}: {_first_line(error)}; restore it or run again elsewhere"
            ) from error
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise BadRequest(
                f"{path} must hold a mapping, not a {type(value).__name__}; restore it from the study"
            )
        return value

    def read(self, table: str, trials: Iterable[str] | None = None) -> pd.DataFrame:
        """A table's rows, of some trials or all, ordered as `records.SORT`; no rows when nothing is written
        yet.

        Raises BadRequest when the table or a file is damaged, misses a column or was written by a newer
        version.
        """
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        wanted = None if trials is None else set(trials)
        for _ in range(5):
            try:
                merged = self._scan(table, wanted)
                break
            except FileNotFoundError:
                # `gather` merged a trial between listing and reading; its rows are in the merged file now.
                continue
        else:
            raise BadRequest(
                f"{self.folder / 'tables' / table} changes while it is read: try again in a moment"
            )
        frame: pd.DataFrame = merged.to_pandas()
        return frame.sort_values(list(SORT[table]), kind="stable", ignore_index=True)

    def _scan(self, table: str, wanted: set[str] | None) -> pa.Table:
        folder = self.folder / "tables" / table
        paths = sorted(p for p in folder.glob("*.parquet") if not p.name.startswith("."))
        own = {p.stem for p in paths} - {"schema", "gathered"}
        stems = None if wanted is None else {file_stem(t) for t in wanted}
        parts = [pa.schema([(c.name, ARROW[c.type]) for c in columns(table)]).empty_table()]
        for path in paths:
            if path.stem in own and stems is not None and path.stem not in stems:
                continue
            part = self._part(table, path, wanted)
            if path.stem == "gathered" and own:
                mine = [file_stem(t) not in own for t in part.column("trial").to_pylist()]
                part = part.filter(pa.array(mine, pa.bool_()))
            parts.append(part)
        try:
            return pa.concat_tables(parts, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise BadRequest(f"{folder} holds files of different types: {_first_line(error)}") from error

    def _part(self, table: str, path: Path, wanted: set[str] | None) -> pa.Table:
        only = None if wanted is None else pc.field("trial").isin(sorted(wanted))
        try:
            schema = pq.read_schema(path)
            part = pq.read_table(path, filters=only if "trial" in schema.names else None, partitioning=None)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise BadRequest(
                f"cannot read {path}: {_first_line(error)}; remove it and run the study again"
            ) from error
        version = (schema.metadata or {}).get(VERSION_KEY, b"1").decode("ascii", "replace")
        if not version.isdigit() or int(version) > SCHEMA_VERSION:
            raise BadRequest(
                f"{path} has schema version {version}, this cl-search reads up to {SCHEMA_VERSION}: upgrade "
                "cl-search"
            )
        known = {c.name: c for c in columns(table)}
        for name in LATER.get(table, ()):
            if name not in part.column_names:
                part = part.append_column(name, pa.nulls(len(part), ARROW[known[name].type]))
        missing = [name for name in known if name not in part.column_names]
        if missing:
            raise BadRequest(f"{path} has no column {', '.join(missing)}: it was not written by cl-search")
        extra = [n for n in part.column_names if n not in known and not n.startswith(DYNAMIC)]
        if extra:
            self._notice(f"table {table}: unknown column {', '.join(extra)} kept as it is")
        for column in known.values():
            part = _typed(part, column, path)
        return part.replace_schema_metadata(None)

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """(data set, scenario) of every value of the column `scenario`; the two differ over several runs."""
        known = self.trials.drop_duplicates("scenario")
        return {str(s): (str(d), str(s)) for s, d in zip(known["scenario"], known["dataset"], strict=True)}

    def row(self, trial: str) -> dict[str, Any]:
        """The `trials` row of one run. Raises BadRequest when there is none."""
        rows = self.trials[self.trials["trial"] == trial]
        if rows.empty:
            raise unknown("trial", trial, self.trials["trial"])
        return {str(k): v for k, v in rows.iloc[0].items()}

    def sizes(self, trial: str) -> tuple[int, ...]:
        """Classes of every task of a run; of the tasks trained so far while it is running."""
        if trial not in self._splits:
            rows = self.read("stages", [trial])
            if rows.empty:
                raise unknown("trial", trial, self.trials["trial"])
            return tuple(int(n) for n in rows.sort_values("task")["classes"])
        base, later = self._splits[trial]
        try:
            return (int(base), *(int(n) for n in later.split(",") if n.strip()))
        except ValueError as error:
            raise BadRequest(f"increments of {trial} must read like '2,2,2', not {later!r}") from error

    @cached_property
    def _splits(self) -> dict[str, tuple[int, str]]:
        """Trial -> classes of its first task, and of its later ones as text."""
        columns_ = (self.trials[name] for name in ("trial", "base", "increments"))
        return {str(trial): (base, str(later)) for trial, base, later in zip(*columns_, strict=True)}

    def classifiers(self, trial: str, split: str) -> list[str]:
        """The rules that answered in a run on `split`, the primary one first.

        Empty when there are no rows.
        """
        rows = self._confusion_of(trial)
        mine = (rows["split"] == split).to_numpy()
        known = set(zip(rows["primary"].to_numpy()[mine], rows["classifier"].to_numpy()[mine], strict=True))
        return [str(name) for _, name in sorted((not primary, name) for primary, name in known)]

    def confusions(self, trial: str, split: str, classifier: str | None = None) -> list[NDArray[np.int64]]:
        """The counts [seen, seen] after each task of a run, rows true classes; of the primary classifier
        unless named.

        An empty list when nothing was evaluated on `split`. Raises BadRequest on an unknown classifier or
        missing tasks.
        """
        known = self.classifiers(trial, split)
        if not known:
            return []
        if classifier is not None and classifier not in known:
            raise unknown("classifier", classifier, known)
        key = (trial, split, classifier or known[0])
        if key not in self._counts:
            self._counts[key] = self._matrices(*key)
        return self._counts[key]

    def _matrices(self, trial: str, split: str, classifier: str) -> list[NDArray[np.int64]]:
        rows = self._confusion_of(trial)
        mine = ((rows["split"] == split) & (rows["classifier"] == classifier)).to_numpy()
        names = ("after_task", "true_class", "predicted_class", "count")
        after, trues, answers, numbers = (rows[name].to_numpy()[mine] for name in names)
        tasks = sorted({int(t) for t in after})
        seen = np.cumsum(self.sizes(trial))
        if tasks != list(range(len(tasks))) or len(tasks) > len(seen):
            raise BadRequest(
                f"confusion counts of {trial} on {split} cover tasks {tasks}, not 0 and on without a gap"
            )
        out = []
        for task in tasks:
            now = after == task
            true, answer = trues[now], answers[now]
            n = int(seen[task])
            if min(true.min(), answer.min()) < 0 or max(true.max(), answer.max()) >= n:
                raise BadRequest(
                    f"confusion counts of {trial} after task {task} name a class outside 0..{n - 1}"
                )
            counts = np.zeros((n, n), dtype=np.int64)
            np.add.at(counts, (true, answer), numbers[now])
            out.append(counts)
        return out

    def fetch(self, trials: Iterable[str]) -> None:
        """Read the confusion counts of runs that will be asked for, many at a time."""
        if "confusion" in self.__dict__:
            return
        wanted = [trial for trial in dict.fromkeys(map(str, trials)) if trial not in self._frames]
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            rows = self.read("confusion", some)
            parts = dict(iter(rows.groupby("trial", sort=False)))
            self._frames.update({trial: parts.get(trial, rows.iloc[:0]) for trial in some})

    def _confusion_of(self, trial: str) -> pd.DataFrame:
        if "confusion" in self.__dict__:
            return self.confusion[self.confusion["trial"] == trial]
        if trial not in self._frames:
            self._frames[trial] = self.read("confusion", [trial])
        return self._frames[trial]

    @cached_property
    def _frames(self) -> dict[str, pd.DataFrame]:
        return {}


def open_results(folder: str | Path | Results | Sequence[str | Path | Results]) -> Results:
    """The results of a run's folder, or of several read as one (`analysis.runs`).

    Raises BadRequest when it is not one.
    """
    if isinstance(folder, Results):
        return folder
    if not isinstance(folder, str | Path):
        from analysis.runs import join

        return join([open_results(one) for one in folder])
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadRequest(f"no folder {path}: name the folder of a run, such as runs/quickstart")
    if not (path / "tables").is_dir() and not (path / "study.yaml").exists():
        raise BadRequest(f"{path} is not a run's folder: it has neither study.yaml nor tables/")
    return Results(path)


@dataclass(frozen=True)
class Comparison:
    """Whether two folders hold the same rows; truthy when they do, readable when printed."""

    differences: tuple[str, ...]
    trials: int
    rows: int

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if self:
            return f"equal: {self.trials} trials, {self.rows} rows"
        return "\n".join(("not equal:", *(f"  {line}" for line in self.differences)))


def equal(
    a: str | Path | Results, b: str | Path | Results, trials: Sequence[str] | None = None, first: int = 5
) -> Comparison:
    """Compare every column that equal runs must share, exactly: floats bit for bit (nan equals nan), in any
    order.

    `trials` restricts it to some runs, each of which must be in one of the folders; at most `first`
    differences are listed per table. A column `hp.*` or `recipe.*` that one side lacks counts as empty there.
    """
    left, right = open_results(a), open_results(b)
    lines: list[str] = []
    rows = 0
    seen: set[str] = set()
    for table in TABLES:
        frames = [side.read(table, trials) for side in (left, right)]
        found = _differences(table, frames[0], frames[1])
        lines += [f"{table}: {line}" for line in found[:first]]
        if len(found) > first:
            lines.append(f"{table}: and {len(found) - first} more differences")
        rows += len(frames[0])
        seen |= {str(t) for frame in frames for t in frame["trial"].unique()}
    for trial in trials or ():
        if trial not in seen:
            raise unknown("trial", trial, seen or set(left.trials["trial"]) | set(right.trials["trial"]))
    return Comparison(tuple(lines), len(seen), rows)


def _differences(table: str, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """What differs between two frames of one table, a line each, in the order of the key."""
    key = list(SORT[table])
    lines = []
    for side, frame in (("first", a), ("second", b)):
        twice = frame[frame.duplicated(key)]
        lines += [f"{_name(key, row)} stands more than once in the {side}" for row in _head(twice, key)]
    if lines:
        return lines
    if a.empty and b.empty:
        return []
    both = a[key].merge(b[key], on=key, how="outer", indicator=True)
    for side, mark in (("first", "left_only"), ("second", "right_only")):
        only = both[both["_merge"] == mark]
        gone = sorted({str(t) for t in only["trial"]})
        whole = [t for t in gone if not ((both["trial"] == t) & (both["_merge"] != mark)).any()]
        lines += [f"trial {trial} only in the {side}" for trial in whole]
        rest = only[~only["trial"].isin(whole)]
        lines += [f"{_name(key, row)} only in the {side}" for row in _head(rest, key)]
    common = both[both["_merge"] == "both"][key]
    x, y = common.merge(a, on=key, how="left"), common.merge(b, on=key, how="left")
    fixed = {c.name: c for c in columns(table)}
    names = [*fixed, *(n for n in dict.fromkeys([*a.columns, *b.columns]) if n not in fixed)]
    for name in names:
        if name in key or (name in fixed and fixed[name].volatile):
            continue
        for i in np.flatnonzero(~_same(_column(x, name), _column(y, name))):
            row = common.iloc[i]
            values = (_show(_column(x, name)[i]), _show(_column(y, name)[i]))
            lines.append(f"{_name(key, row)} {name}: {values[0]} and {values[1]}")
    return lines


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Elementwise: equal value, floats bit for bit, missing equal to missing."""
    if a.dtype == np.float64 and b.dtype == np.float64:
        nan = np.isnan(a) & np.isnan(b)
        return nan | (a.view(np.int64) == b.view(np.int64))
    missing_a, missing_b = np.asarray(pd.isna(a)), np.asarray(pd.isna(b))
    same = np.fromiter((x == y for x, y in zip(a, b, strict=True)), dtype=bool, count=len(a))
    return (missing_a & missing_b) | (same & ~missing_a & ~missing_b)


def _column(frame: pd.DataFrame, name: str) -> NDArray[Any]:
    """A column as float64 where it is one, else as objects; all missing where the frame lacks it."""
    if name not in frame:
        return np.full(len(frame), None, dtype=object)
    series = frame[name]
    return series.to_numpy() if series.dtype == np.float64 else series.to_numpy(dtype=object)


def _head(frame: pd.DataFrame, key: list[str]) -> list[Mapping[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame[key].to_dict("records")]


def _name(key: list[str], row: Mapping[str, Any] | pd.Series) -> str:
    """A row by its key: 'lwf@B0-5tasks/3 task 2'."""
    rest = [f"{k} {row[k]}" for k in key if k != "trial"]
    return " ".join([str(row["trial"]), *rest])


def _show(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "nothing"
    if isinstance(value, float):
        return repr(float(value))  # every digit: two values that print alike may differ in a bit
    return repr(value) if isinstance(value, str) else str(value)


def _typed(part: pa.Table, column: Column, path: Path) -> pa.Table:
    """`part` with `column` in its declared type. Raises BadRequest when it holds something else."""
    index = part.column_names.index(column.name)
    have, want = part.schema.field(index).type, ARROW[column.type]
    if have == want:
        return part
    try:
        return part.set_column(index, column.name, part.column(index).cast(want))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadRequest(f"{path} has {have} in column {column.name}, expected {want}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
