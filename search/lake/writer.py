"""The writer of the lake: one Parquet file a run and table, complete when the run ends.

Until then the rows of a run are in the folder `.running` beside the tables, rewritten as a whole after each
task. A file in a table's folder is complete and is not replaced, so a reader may list the folder now and open
its files later. Every file is written aside, outside the tables' folders, and renamed. `gather` merges the
files of ended runs into one sorted file a table; while a study runs, `compact` merges some of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from analysis.lake import arrow_schema
from analysis.lake.checksums import Damaged, check_sealed, read_sealed, runs_in, write_sealed
from analysis.lake.run_folder import (
    ASIDE,
    GATHER_LOCK,
    GATHERED,
    RUNNING,
    SCHEMA,
    TABLES_FOLDER,
    file_stem,
    has_runs,
    merged_files,
    next_segment,
    run_file,
    table_folder,
    tables_of,
)
from analysis.lake.run_rows import run_rows
from cl_core.aside import aside
from cl_core.errors import BadRequest, RunError
from cl_core.hparams import HParam, hparams
from cl_core.method import METHODS
from cl_core.recipe import Recipe
from cl_core.records import SORT, TABLES

Schemas = Mapping[str, pa.Schema]


def study_schemas(methods: Iterable[str]) -> dict[str, pa.Schema]:
    """Return the schema of every table for a study of `methods`, fixed before the first row is written."""
    found: dict[str, HParam] = {}
    for name in sorted(set(methods)):
        for param in hparams(METHODS[name].HP).values():
            known = found.setdefault(param.name, param)
            if known.type is not param.type:
                raise BadRequest(
                    f"hyperparameter {param.name!r} must have one type in all methods: "
                    f"{known.type.__name__} and {param.type.__name__}; rename one"
                )
    recipe = {name: param.type for name, param in hparams(Recipe).items()}
    return arrow_schema.study_schemas({name: param.type for name, param in found.items()}, recipe)


def read_schemas(folder: Path) -> dict[str, pa.Schema]:
    """Return the schemas with which the tables of a run folder were started."""
    return {table: pq.read_schema(table_folder(folder, table) / SCHEMA) for table in TABLES}


def start_tables(folder: Path, schemas: Schemas) -> None:
    """Write an empty file that shows every column from the start. If a study has grown, widen its files."""
    for table, schema in schemas.items():
        path = table_folder(folder, table) / SCHEMA
        if path.exists() and pq.read_schema(path).equals(schema):
            continue
        _write(path, pa.Table.from_pylist([], schema=schema))
        for part in sorted(path.parent.glob("[!.]*.parquet")):
            if not pq.read_schema(part).equals(schema):
                _write(part, _conform(read_sealed(part), schema))


def write_rows(
    folder: Path, table: str, run: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Write all rows of one run. Its row in `runs` ends the run: from then on all tables show it.

    Raises RunError if the disk does not take them.
    """
    for row in rows:
        for name in row:
            if name not in schema.names:
                raise KeyError(f"table {table!r} has no column {name!r}")
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    shown, running = run_files(folder, table, run)
    if table == "runs":
        _show(folder, run)
    _write(shown if table == "runs" else running, pa.Table.from_pylist(filled, schema=schema))


def read_rows(folder: Path, table: str, run: str, merged: bool = False) -> list[dict[str, Any]]:
    """Return the rows of one run from its file, with `merged` also from the merged ones.

    A file that is missing or damaged has no rows.
    """
    shown, running = run_files(folder, table, run)
    part, only = pa.table({}), pc.field("run") == run
    for path in (running, shown):
        with contextlib.suppress(FileNotFoundError, Damaged):
            part = read_sealed(path)
            merged = False
            break
    for path in merged_files(shown.parent) if merged else ():
        with contextlib.suppress(FileNotFoundError, Damaged):
            if run in runs_in(path):
                part = read_sealed(path, filters=only)
                break
    rows: list[dict[str, Any]] = part.to_pylist()
    return rows


def drop_run(folder: Path, run: str, tables: Iterable[str] = tuple(TABLES)) -> None:
    """Remove the files of a run that begins again."""
    for table in tables:
        for path in run_files(folder, table, run):
            path.unlink(missing_ok=True)


def run_files(folder: Path, table: str, run: str) -> tuple[Path, Path]:
    """Return the path of a run's file in a table once the run has ended, and before."""
    shown = run_file(folder, table, run)
    return shown, tables_of(folder) / RUNNING / table / shown.name


def _show(folder: Path, run: str) -> None:
    for table in TABLES:
        shown, running = run_files(folder, table, run)
        with contextlib.suppress(FileNotFoundError):
            running.replace(shown)


def while_gathering(folder: Path) -> FileLock:
    """Return the lock under which files are merged."""
    return FileLock(tables_of(folder) / GATHER_LOCK)


def gather(folder: Path) -> dict[str, int]:
    """Merge the files of ended runs into one sorted file a table; return the number of rows of each.

    A study may work meanwhile. Runs that have not ended keep their files, and so do failed ones, which may be
    tried again. If a crash left a run in both places, its own file counts.
    """
    if not has_runs(folder):
        raise BadRequest(f"gather needs a run folder: {folder} has no tables; name another")
    with while_gathering(folder):
        for table in TABLES:  # all before any: a run is merged in every table or in none
            for path in table_folder(folder, table).glob("[!.]*.parquet"):
                read_sealed(path)
        ended = {run for run, row in run_rows(folder).items() if row["status"] != "failed"}
        return {table: _gather_table(table_folder(folder, table), table, ended) for table in TABLES}


def compact(folder: Path, runs: Iterable[str]) -> None:
    """Merge the files of some ended runs into one more file of each table, a segment.

    Readers and a study may work meanwhile, and a crash at any moment loses and doubles nothing: the runs'
    own files go last. A run with a damaged file keeps its files.
    """
    with while_gathering(folder):
        name, tables = next_segment(folder), sorted(TABLES, key=lambda table: table == "runs")
        parts: dict[str, list[Path]] = {table: [] for table in tables}
        for run in sorted(runs):
            own = {t: path for t in tables if (path := run_file(folder, t, run)).exists()}
            with contextlib.suppress(Damaged):
                for path in own.values():
                    check_sealed(path)
                if "runs" in own:
                    for table, path in own.items():
                        parts[table].append(path)
        for table in tables:
            place = table_folder(folder, table)
            if parts[table]:
                _merge(place, table, parts[table], [], place / name)
        for table in tables:
            for path in parts[table]:
                path.unlink(missing_ok=True)


def drop_gathered(folder: Path, table: str, runs: Iterable[str]) -> None:
    """Remove runs from a table's merged files."""
    gone = set(runs)
    for path in merged_files(table_folder(folder, table)):
        if gone & runs_in(path):
            rows = read_sealed(path)
            keep = pc.invert(pc.is_in(rows["run"], value_set=pa.array(sorted(gone), pa.string())))
            _write(path, rows.filter(keep))


def _gather_table(place: Path, table: str, ended: set[str]) -> int:
    parts = [place / f"{file_stem(run)}.parquet" for run in sorted(ended)]
    parts, merged = [p for p in parts if p.exists()], merged_files(place)
    rows = _merge(place, table, parts, merged, place / GATHERED)
    for path in (*parts, *(path for path in merged if path.name != GATHERED)):
        path.unlink(missing_ok=True)
    return rows


def _merge(place: Path, table: str, parts: Sequence[Path], merged: Sequence[Path], target: Path) -> int:
    """Write the rows of runs' own files, and of merged ones, into one sorted file; return their number.

    Of a run in several files, the first one counts.
    """
    schema = read_sealed(place / SCHEMA).schema
    whole = pa.concat_tables([schema.empty_table(), *(_conform(read_sealed(p), schema) for p in parts)])
    for path in merged:
        old = _conform(read_sealed(path), schema)
        again = pc.unique(whole["run"])
        whole = pa.concat_tables([whole, old.filter(pc.invert(pc.is_in(old["run"], value_set=again)))])
    whole = whole.sort_by([(name, "ascending") for name in SORT[table]])
    _write(target, whole.cast(schema))
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
