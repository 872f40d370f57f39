"""The writer of the lake: one Parquet file a run and table, complete when the run ends.

Until then the rows of a run are in the folder `.running` beside the tables, rewritten as a whole after each
task. A file in a table's folder is complete and is not replaced, so a reader may list the folder now and open
its files later. Every file is written aside, outside the tables' folders, and renamed. `gather` merges the
files of ended runs into one sorted file a table; while a study runs, `compact` merges some of them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.lake import arrow_schema
from analysis.lake.checksums import (
    Damaged,
    check_sealed,
    read_sealed,
    runs_in,
    write_sealed,
    write_sealed_batches,
)
from analysis.lake.relation import connect, quoted
from analysis.lake.run_folder import (
    ASIDE,
    GATHERED,
    RUNNING,
    SCHEMA,
    TABLES_FOLDER,
    file_stem,
    has_runs,
    merged_files,
    next_segment,
    own_files,
    run_file,
    table_folder,
    tables_of,
)
from analysis.lake.tables import scan
from cl_core.aside import aside
from cl_core.errors import BadRequest, RunError
from cl_core.hparams import HParam, hparams
from cl_core.method import METHODS
from cl_core.recipe import Recipe
from cl_core.records import SORT, TABLES
from search.lake.merging import merged_file, put, settle_tables, while_gathering

ROW_GROUP = 122_880  # rows of a merged file that are written, and skipped by readers, together
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
    """Return the schemas with which the tables of a run folder were started. Raises Damaged."""
    return {table: _schema(table_folder(folder, table)) for table in TABLES}


def _schema(place: Path) -> pa.Schema:
    try:
        check_sealed(place / SCHEMA)
        return pq.read_schema(place / SCHEMA)
    except FileNotFoundError as error:
        raise Damaged(place / SCHEMA, "it is gone") from error


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
            merged = merged and not part.num_rows  # its rows may be in the file that it is merged into
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


def gather(folder: Path) -> dict[str, int]:
    """Merge the files of ended runs into one sorted file a table; return the number of rows of each.

    A study may work meanwhile. Runs that have not ended keep their files, and so do failed ones, which may be
    tried again. Every reader finds each row once, also after a crash: see `search.lake.merging`. What does
    not fit into little memory is sorted on the disk.
    """
    if not has_runs(folder):
        raise BadRequest(f"gather needs a run folder: {folder} has no tables; name another")
    with while_gathering(folder), _database(folder) as database:
        settle_tables(folder)
        for table in TABLES:  # all before any: a run is merged in every table or in none
            for path in table_folder(folder, table).glob("[!.]*.parquet"):
                check_sealed(path)
        rows = scan(database, folder, "runs", None, _ignored)
        ended = {run for (run,) in rows.filter("status <> 'failed'").project("run").fetchall()}
        stems = {file_stem(run) for run in ended}
        out = {}
        for table in TABLES:
            place = table_folder(folder, table)
            parts = [path for path in own_files(place) if path.stem in stems]
            out[table] = _merge(database, place, [*parts, *merged_files(place)], ended, GATHERED)
        return out


def compact(folder: Path, runs: Iterable[str]) -> None:
    """Merge the files of some ended runs into one more file of each table, a segment.

    Readers and a study may work meanwhile, and a crash at any moment loses and doubles nothing. The runs' own
    rows of `runs` are merged last. A run with a damaged file keeps its files. If a file of a run is damaged
    only now, nothing further is merged: the next command sets it aside.
    """
    with while_gathering(folder), _database(folder) as database:
        settle_tables(folder)
        name, tables = next_segment(folder), sorted(TABLES, key=lambda table: table == "runs")
        parts: dict[str, dict[str, Path]] = {table: {} for table in tables}
        for run in sorted(runs):
            own = {t: path for t in tables if (path := run_file(folder, t, run)).exists()}
            with contextlib.suppress(Damaged):
                for path in own.values():
                    check_sealed(path)
                if "runs" in own:
                    for table, path in own.items():
                        parts[table][run] = path
        for table, files in parts.items():  # a killed merge may have taken a run from some of the tables
            try:
                if files:
                    _merge(database, table_folder(folder, table), [*files.values()], set(files), name)
            except (Damaged, duckdb.Error):
                if all(map(_whole, files.values())):
                    raise
                return


def _whole(path: Path) -> bool:
    try:
        check_sealed(path)
    except (Damaged, OSError):
        return False
    return True


def drop_gathered(folder: Path, table: str, runs: Iterable[str]) -> None:
    """Remove runs from a table's merged files."""
    gone = set(runs)
    for path in merged_files(table_folder(folder, table)):
        if gone & runs_in(path):
            drop_from(path, gone)


def drop_from(path: Path, runs: Iterable[str]) -> None:
    """Remove runs from a merged file."""
    rows = read_sealed(path)
    keep = pc.invert(pc.is_in(rows["run"], value_set=pa.array(sorted(runs), pa.string())))
    _write(path, rows.filter(keep))


def _merge(
    database: duckdb.DuckDBPyConnection, place: Path, files: Sequence[Path], runs: set[str], name: str
) -> int:
    """Put the rows of some runs in one sorted file `name`, in place of `files`; return their number.

    `files` hold no other run. Of a run in several, the first one counts.
    """
    schema = _schema(place)
    rows = scan(database, place.parents[1], place.name, runs, _ignored)
    have = set(rows.columns)
    chosen = [quoted(n) if n in have else f"null as {quoted(n)}" for n in schema.names]
    rows = rows.project(", ".join(chosen)).order(", ".join(map(quoted, SORT[place.name])))
    batches = (batch.cast(schema) for batch in rows.to_arrow_reader(ROW_GROUP))
    with _writing(merged_file(place)) as hidden:
        count = write_sealed_batches(batches, schema, hidden)
    put(place, name, files)
    return count


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database that sorts in little memory, else on the disk of the tables."""
    spill = tables_of(folder) / ASIDE / "spill"
    database = connect(memory="500MB", spill=spill)
    try:
        yield database
    finally:
        database.close()
        shutil.rmtree(spill, ignore_errors=True)


def _ignored(notice: str) -> None:
    """Take a notice that is for readers."""


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [f for f in schema if f.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names).cast(schema)


def _write(path: Path, table: pa.Table) -> None:
    with _writing(path) as hidden:
        write_sealed(table, hidden)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file of the tables to. Raises RunError if the disk does not take it."""
    place = next(above for above in path.parents if above.name == TABLES_FOLDER) / ASIDE
    try:
        with aside(path, place) as hidden:
            yield hidden
    except OSError as error:
        raise RunError(
            f"tables must be writable: {path.parent}: {error}; free space and run again"
        ) from error
