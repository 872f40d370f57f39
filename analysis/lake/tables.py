"""The Parquet tables of a run's folder, scanned by DuckDB and checked against `cl_core.records`.

A table is a folder `tables/<table>/`: an empty `schema.parquet`, one file a run, and files of many runs:
`gathered.parquet`, which `gather` makes, and `gathered.000001.parquet` and on, which a running study makes. A
run found in several is taken from its own file, then from the newest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.lake.arrow_schema import ADDED, ARROW, VERSION_KEY, table_schema
from analysis.lake.checksums import Damaged, checked, read_sealed, runs_in
from analysis.lake.relation import literal, quoted
from analysis.lake.run_folder import SCHEMA, file_stem, merged_files, own_files, table_folder
from cl_core.errors import BadRequest, first_line, unknown
from cl_core.records import SCHEMA_VERSION, SORT, TABLES, columns

LATER = {
    "runs": ("old_new_gap", "kept_bytes", "parameters", "flops", "audited_after", "reuses"),
    "tasks": ("parameters", "flops", "teacher_agreement", "attempts"),
    "classes": ("correct_rows",),
}  # columns that runs of an earlier version lack; missing values then

Notice = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Files of one Arrow schema; of their rows those of the runs `only`, or all."""

    paths: Sequence[Path]
    schema: pa.Schema
    only: Sequence[str] | None = None


def scan(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    table: str,
    runs: Iterable[str] | None,
    notice: Notice,
) -> duckdb.DuckDBPyRelation:
    """The rows of a table, of some runs or all, each once; they are read when they are asked for.

    `notice` takes one-line remarks, such as columns that this version does not know. Raises BadRequest when
    the table or a file is damaged, misses a column or was written by a newer version.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    place, wanted = table_folder(folder, table), None if runs is None else sorted(set(runs))
    groups = _stable([place], lambda: _files(place, wanted))
    empty = _empty(place)
    for one in (*groups, *empty):
        _fits(one, table, notice)
    want = {column.name: ARROW[column.type] for column in columns(table)}
    parts = [_rows(connection, one, want) for one in groups]
    known = [pa.schema([(f.name, want.get(f.name, f.type)) for f in one.schema]) for one in (*groups, *empty)]
    try:
        whole = pa.unify_schemas(
            [table_schema(table).remove_metadata(), *known], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadRequest(f"{place} holds files of different types: {first_line(error)}") from error
    rows = below([connection.from_arrow(whole.empty_table()), *parts])
    return rows if wanted is None else rows.filter(among(wanted))


def below(parts: Sequence[duckdb.DuckDBPyRelation]) -> duckdb.DuckDBPyRelation:
    """The rows of relations below each other. A column that one lacks is missing there."""
    types = {n: kind for part in parts for n, kind in zip(part.columns, part.types, strict=True)}
    names = list(dict.fromkeys(name for part in parts for name in part.columns))
    found = []
    for part in parts:
        known = set(part.columns)
        chosen = [quoted(n) if n in known else f"cast(null as {types[n]}) as {quoted(n)}" for n in names]
        found.append(part.project(", ".join(chosen)))
    return reduce(duckdb.DuckDBPyRelation.union, found)


def read_table(
    scanned: Callable[[], duckdb.DuckDBPyRelation],
    places: Sequence[Path],
    names: Sequence[str] = (),
    ordered: bool = True,
) -> pa.Table:
    """The rows of what `scanned` gives, perhaps `ordered` as `records.SORT`, with some columns or all.

    `places` are the folders of the table. Raises BadRequest as `scan`, and on an unknown column.
    """
    order = ", ".join(map(quoted, SORT.get(places[0].name, ())))

    def read() -> pa.Table:
        rows = scanned().order(order) if ordered else scanned()
        for name in names:
            if name not in rows.columns:
                raise unknown("column", name, rows.columns)
        return (rows.project(", ".join(map(quoted, names))) if names else rows).to_arrow_table()

    return steadily(places, read)


def steadily(places: Sequence[Path], read: Callable[[], T]) -> T:
    """Return what `read` gives of tables; read again where their files were merged meanwhile.

    Else a row could be missing, or be there twice: the names of files stay, and their rows move.
    """

    def once() -> T:
        before = [(own_files(place), _versions(merged_files(place))) for place in places]
        found = read()
        for place, (own, merged) in zip(places, before, strict=True):
            if not set(own) <= set(own_files(place)) or merged != _versions(merged):
                raise FileNotFoundError(place)
        return found

    return _stable(places, once)


def _versions(paths: Iterable[Path]) -> dict[Path, tuple[int, ...]]:
    stats = {path: path.stat() for path in paths}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _stable(places: Sequence[Path], read: Callable[[], T]) -> T:
    """Read again where a file was merged between listing and reading: its rows are in another one now."""
    for _ in range(5):
        try:
            return read()
        except FileNotFoundError:
            continue
        except duckdb.Error as error:
            for place in places:
                blame(place, error)
    raise BadRequest(f"{places[0]} changes while it is read: try again in a moment")


def blame(place: Path, error: duckdb.Error) -> None:
    """Raise the error of the file that DuckDB could not read; return where files have changed meanwhile."""
    if isinstance(error, duckdb.IOException) and "No files found" in str(error):
        return
    for path in (*own_files(place), *merged_files(place)):
        with contextlib.suppress(FileNotFoundError):
            read_sealed(path)
    if not isinstance(error, duckdb.IOException):
        raise BadRequest(f"cannot read {place}: {first_line(error)}") from error


def _files(place: Path, wanted: Sequence[str] | None) -> list[Files]:
    """The files to read, by their schema."""
    own = own_files(place)
    seen = {path.stem for path in own}
    if wanted is not None:
        stems = {file_stem(run) for run in wanted}
        own = [path for path in own if path.stem in stems]
    found = _by_schema(own)
    merged = merged_files(place)
    for path in merged:
        if not seen and len(merged) == 1:
            found += _by_schema([path])
            break
        runs = _guarded(path, runs_in)
        fresh = [run for run in runs if file_stem(run) not in seen]
        seen.update(map(file_stem, runs))
        if fresh and (wanted is None or not set(fresh).isdisjoint(wanted)):
            only = None if len(fresh) == len(runs) else fresh
            found += [Files(one.paths, one.schema, only) for one in _by_schema([path])]
    whole = [one for one in found if one.only is None]
    return [*_joined(whole), *(one for one in found if one.only is not None)]


def _by_schema(paths: Sequence[Path]) -> list[Files]:
    groups: dict[bytes | Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(_guarded(path, checked).schema or path, []).append(path)
    return [Files(some, _guarded(some[0], _schema)) for some in groups.values()]


def _joined(found: Sequence[Files]) -> list[Files]:
    groups: list[Files] = []
    for one in found:
        for at, other in enumerate(groups):
            if one.schema.equals(other.schema, check_metadata=True):
                groups[at] = Files([*other.paths, *one.paths], other.schema)
                break
        else:
            groups.append(one)
    return groups


def _empty(place: Path) -> list[Files]:
    """The file that shows every column."""
    return _by_schema([place / SCHEMA]) if (place / SCHEMA).exists() else []


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Damaged(path, first_line(error)) from error


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {first_line(error)}; see that it can be read") from error


def _fits(one: Files, table: str, notice: Notice) -> None:
    """Raise BadRequest where files are of a newer version or lack a column."""
    path, names = one.paths[0], one.schema.names
    version = (one.schema.metadata or {}).get(VERSION_KEY, b"1").decode("ascii", "replace")
    if not version.isdigit() or int(version) > SCHEMA_VERSION:
        raise BadRequest(
            f"{path} has schema version {version}, this cl-search reads up to {SCHEMA_VERSION}: upgrade "
            "cl-search"
        )
    known = [column.name for column in columns(table)]
    missing = [name for name in known if name not in names and name not in LATER.get(table, ())]
    if missing:
        raise BadRequest(f"{path} has no column {', '.join(missing)}: it was not written by cl-search")
    extra = [name for name in names if name not in known and not name.startswith(ADDED)]
    if extra:
        notice(f"table {table}: unknown column {', '.join(extra)} kept as it is")


def _rows(
    connection: duckdb.DuckDBPyConnection, one: Files, want: Mapping[str, pa.DataType]
) -> duckdb.DuckDBPyRelation:
    """The rows of files, their columns in the types `want`."""
    have = {field.name: field.type for field in one.schema}
    if all(have.get(name, kind) == kind for name, kind in want.items()):
        names = [_escaped(path) for path in one.paths]
        rows = connection.read_parquet(names, hive_partitioning=False)
    else:
        parts = [_typed(path, want) for path in one.paths]
        rows = connection.from_arrow(pa.concat_tables(parts).replace_schema_metadata(None))
    return rows if one.only is None else rows.filter(among(one.only))


def _typed(path: Path, want: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows of a file in the declared types. Raises BadRequest when it holds something else."""
    part = read_sealed(path)
    for name in part.column_names:
        index, have = part.column_names.index(name), part.schema.field(name).type
        kind = want.get(name, have)
        if have != kind:
            try:
                part = part.set_column(index, name, part.column(index).cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise BadRequest(f"{path} has {have} in column {name}, expected {kind}") from error
    return part


def among(runs: Iterable[str]) -> str:
    """The condition that a row is of some runs, in SQL."""
    names = ", ".join(map(literal, runs))
    return f"(run in ({names}))" if names else "false"


def _escaped(path: Path) -> str:
    """The name of a file, in which DuckDB finds no pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))
