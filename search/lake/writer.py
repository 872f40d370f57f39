"""Rows to Parquet: one file a trial and table, written once, when the trial ends.

Until then a trial's rows lie in the folder `.running` beside the tables, rewritten as a whole after each
task. What stands in a table's folder is complete and is not replaced, so a reader may list it, and open its
files later: some look twice at a file that they read. Every file is written aside, outside the tables'
folders, and renamed. `gather` merges the files of ended trials into one sorted file a table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from analysis.lake.checksums import Damaged, read_sealed, write_sealed
from cl_core.aside import aside
from cl_core.errors import BadRequest, RunError
from cl_core.hparams import HParam, hparams
from cl_core.method import METHODS
from cl_core.recipe import Recipe
from cl_core.records import SCHEMA_VERSION, SORT, TABLES, columns

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_VERSION_KEY = b"cl_search_schema_version"
GATHERED = "gathered.parquet"
SCHEMA = "schema.parquet"
TABLES_FOLDER = "tables"
# Beside the tables, where no reader looks: files that are being written, and those of trials under way.
ASIDE = ".aside"
RUNNING = ".running"

Schemas = Mapping[str, pa.Schema]


def file_of(trial: str) -> str:
    """The name of a trial's file, without ending: no part of a trial's name makes a folder."""
    return trial.replace("/", "--").replace(":", "-")


def tables_of(folder: Path) -> Path:
    """Where a run's tables lie."""
    return folder / TABLES_FOLDER


def study_schemas(methods: Iterable[str]) -> dict[str, pa.Schema]:
    """The schema of every table for a study over `methods`: one for all parts, fixed before the first row."""
    found: dict[str, HParam] = {}
    for name in sorted(set(methods)):
        for param in hparams(METHODS[name].HP).values():
            known = found.setdefault(param.name, param)
            if known.type is not param.type:
                raise BadRequest(
                    f"hyperparameter {param.name!r} must have one type in all methods: "
                    f"{known.type.__name__} and {param.type.__name__}; rename one"
                )
    hp_fields = [pa.field(f"hp.{n}", _ARROW[p.type]) for n, p in sorted(found.items())]
    recipe = [(n, _ARROW[p.type]) for n, p in hparams(Recipe).items()]
    extra = {
        "runs": [
            *hp_fields,
            *(pa.field(f"recipe.{part}.{n}", t) for part in ("base", "increment") for n, t in recipe),
        ],
        "tasks": [*hp_fields, *(pa.field(f"recipe.{n}", t) for n, t in recipe)],
    }
    version = {_VERSION_KEY: str(SCHEMA_VERSION).encode()}
    return {
        table: pa.schema(
            [
                *(pa.field(c.name, _ARROW[c.type], nullable=True) for c in columns(table)),
                *extra.get(table, ()),
            ],
            metadata=version,
        )
        for table in TABLES
    }


def start_tables(folder: Path, schemas: Schemas) -> None:
    """Write the empty file that shows every column from the first moment; widen what stands when a study has
    grown.
    """
    for table, schema in schemas.items():
        path = tables_of(folder) / table / SCHEMA
        if path.exists() and pq.read_schema(path).equals(schema):
            continue
        _write(path, pa.Table.from_pylist([], schema=schema))
        for part in sorted(path.parent.glob("[!.]*.parquet")):
            if not pq.read_schema(part).equals(schema):
                _write(part, _conform(read_sealed(part), schema))


def write_rows(
    folder: Path, table: str, trial: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Put all rows of one trial in its file. The row of `trials` ends it: then all its tables show it.

    Raises RunError where the disk does not take them.
    """
    for row in rows:
        for name in row:
            if name not in schema.names:
                raise KeyError(f"table {table!r} has no column {name!r}")
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    shown, running = _places(folder, table, trial)
    if table == "runs":
        _show(folder, trial)
    _write(shown if table == "runs" else running, pa.Table.from_pylist(filled, schema=schema))


def read_rows(folder: Path, table: str, trial: str, merged: bool = False) -> list[dict[str, Any]]:
    """The rows of one trial in its file, with `merged` also in the gathered one; none where there is no file
    or it is damaged.
    """
    shown, running = _places(folder, table, trial)
    part, only = pa.table({}), pc.field("run") == trial
    for path in (running, shown, *([shown.with_name(GATHERED)] if merged else [])):
        with contextlib.suppress(FileNotFoundError, Damaged):
            part = read_sealed(path, filters=only if path.name == GATHERED else None)
            break
    rows: list[dict[str, Any]] = part.to_pylist()
    return rows


def drop_run(folder: Path, trial: str, tables: Iterable[str] = tuple(TABLES)) -> None:
    """Remove a trial's files, for a run that begins anew."""
    for table in tables:
        for path in _places(folder, table, trial):
            path.unlink(missing_ok=True)


def _places(folder: Path, table: str, trial: str) -> tuple[Path, Path]:
    """Where a trial's file of a table lies when the trial has ended, and before."""
    name = f"{file_of(trial)}.parquet"
    return tables_of(folder) / table / name, tables_of(folder) / RUNNING / table / name


def _show(folder: Path, trial: str) -> None:
    for table in TABLES:
        shown, running = _places(folder, table, trial)
        with contextlib.suppress(FileNotFoundError):
            running.replace(shown)


def recorded(folder: Path, damaged: Callable[[Damaged], None] | None = None) -> dict[str, dict[str, Any]]:
    """The row of the `trials` table of every trial that has ended, by trial.

    `damaged` is told of each file that is passed over. Raises Damaged where it is not given.
    """
    place = tables_of(folder) / "runs"
    own: dict[str, dict[str, Any]] = {}
    merged: dict[str, dict[str, Any]] = {}
    # The gathered file last: what is merged meanwhile is in both, and counts once.
    for path in [*sorted(own_files(place)), place / GATHERED]:
        try:
            rows = read_sealed(path).to_pylist()
        except FileNotFoundError:
            continue
        except Damaged as error:
            if damaged is None:
                raise
            damaged(error)
            continue
        (merged if path.name == GATHERED else own).update((row["run"], row) for row in rows)
    return merged | own


def own_files(place: Path) -> list[Path]:
    """The files of single trials."""
    return [path for path in place.glob("[!.]*.parquet") if path.name not in (GATHERED, SCHEMA)]


def while_gathering(folder: Path) -> FileLock:
    """The lock under which files are merged."""
    return FileLock(tables_of(folder) / ".gather.lock")


def gather(folder: Path) -> dict[str, int]:
    """Merge the files of ended trials into one sorted file a table; returns the rows of each.

    Safe while a run writes: trials that have not ended, and failed ones, which may be run again, keep their
    files. A trial that stands in both (a crash in between) is taken from its own file.
    """
    if not (tables_of(folder) / "runs").is_dir():
        raise BadRequest(f"gather needs the folder of a run: {folder} has no tables; name the run's folder")
    with while_gathering(folder):
        for table in TABLES:  # all before any: a trial is merged in every table or in none
            for path in tables_of(folder).glob(f"{table}/[!.]*.parquet"):
                read_sealed(path)
        ended = {trial for trial, row in recorded(folder).items() if row["status"] != "failed"}
        return {table: _gather_table(tables_of(folder) / table, table, ended) for table in TABLES}


def without(folder: Path, table: str, trials: Iterable[str]) -> None:
    """Remove trials from a table's gathered file."""
    path = tables_of(folder) / table / GATHERED
    rows = read_sealed(path)
    _write(path, rows.filter(pc.invert(pc.is_in(rows["run"], value_set=pa.array(trials, pa.string())))))


def _gather_table(place: Path, table: str, ended: set[str]) -> int:
    schema = read_sealed(place / SCHEMA).schema
    parts = [place / f"{file_of(trial)}.parquet" for trial in sorted(ended)]
    parts = [p for p in parts if p.exists()]
    fresh = [_conform(read_sealed(p), schema) for p in parts]
    whole = pa.concat_tables([schema.empty_table(), *fresh])
    target = place / GATHERED
    if target.exists():
        old = _conform(read_sealed(target), schema)
        again = pc.unique(whole["run"])
        whole = pa.concat_tables([whole, old.filter(pc.invert(pc.is_in(old["run"], value_set=again)))])
    whole = whole.sort_by([(name, "ascending") for name in SORT[table]])
    _write(target, whole.cast(schema))
    for part in parts:
        part.unlink(missing_ok=True)
    return whole.num_rows


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [f for f in schema if f.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names).cast(schema)


def _write(path: Path, table: pa.Table) -> None:
    place = next(above for above in path.parents if above.name == TABLES_FOLDER) / ASIDE
    try:
        with aside(path, place) as hidden:
            write_sealed(table, hidden)
    except OSError as error:
        raise RunError(
            f"tables must be writable: {path.parent}: {error}; free space and run again"
        ) from error
