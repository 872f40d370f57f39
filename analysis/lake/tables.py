"""The Parquet tables of a run's folder as pandas frames, checked against `cl_core.records`.

A table is a folder `tables/<table>/`: an empty `schema.parquet`, one file a run, and files of many runs:
`gathered.parquet`, which `gather` makes, and `gathered.000001.parquet` and on, which a running study makes. A
run found in several is taken from its own file, then from the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.lake.arrow_schema import ADDED, ARROW, VERSION_KEY, table_schema
from analysis.lake.checksums import read_sealed, runs_in
from analysis.lake.run_folder import (
    SCHEMA,
    file_stem,
    is_merged,
    merged_files,
    own_files,
    table_folder,
)
from cl_core.errors import BadRequest, first_line, unknown
from cl_core.records import SCHEMA_VERSION, SORT, TABLES, Column, columns

LATER = {
    "runs": ("old_new_gap", "kept_bytes", "parameters", "audited_after"),
    "tasks": ("parameters", "teacher_agreement", "attempts"),
    "classes": ("correct_rows",),
}  # columns that runs of an earlier version lack; missing values then


def read_table(
    folder: Path, table: str, runs: Iterable[str] | None, notice: Callable[[str], None]
) -> pd.DataFrame:
    """A table's rows, of some runs or all, ordered as `records.SORT`; no rows when nothing is written yet.

    `notice` takes one-line remarks, such as columns that this version does not know. Raises BadRequest when
    the table or a file is damaged, misses a column or was written by a newer version.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    place, wanted = table_folder(folder, table), None if runs is None else set(runs)
    for _ in range(5):
        try:
            merged = _scan(place, wanted, notice)
            break
        except FileNotFoundError:
            # `gather` merged a run between listing and reading; its rows are in the merged file now.
            continue
    else:
        raise BadRequest(f"{place} changes while it is read: try again in a moment")
    frame: pd.DataFrame = merged.to_pandas()
    return frame.sort_values(list(SORT[table]), kind="stable", ignore_index=True)


def _scan(folder: Path, wanted: set[str] | None, notice: Callable[[str], None]) -> pa.Table:
    table = folder.name
    own = own_files(folder)
    stems = None if wanted is None else {file_stem(t) for t in wanted}
    parts = [table_schema(table).remove_metadata().empty_table()]
    parts += [_part(p, wanted, notice) for p in own if stems is None or p.stem in stems]
    seen, mine = {path.stem for path in own}, wanted or set()
    for path in merged_files(folder):
        runs = _runs_in(path)
        fresh = [run for run in runs if file_stem(run) not in seen and (wanted is None or run in mine)]
        seen.update(map(file_stem, runs))
        if fresh:
            part = _part(path, wanted, notice)
            if len(fresh) < len(runs):
                part = part.filter(pc.field("run").isin(fresh))
            parts.append(part)
    if (folder / SCHEMA).exists():
        parts.append(_part(folder / SCHEMA, wanted, notice))
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadRequest(f"{folder} holds files of different types: {first_line(error)}") from error


def _runs_in(path: Path) -> frozenset[str]:
    try:
        return runs_in(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {first_line(error)}; see that it can be read") from error


def _part(path: Path, wanted: set[str] | None, notice: Callable[[str], None]) -> pa.Table:
    table, only = path.parent.name, None if wanted is None else pc.field("run").isin(sorted(wanted))
    try:
        # A merged file may be large; any other one holds a single run.
        part = read_sealed(path, filters=only if is_merged(path) else None)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {first_line(error)}; see that it can be read") from error
    schema = part.schema
    if only is not None and "run" in schema.names:
        part = part.filter(only)
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
    extra = [n for n in part.column_names if n not in known and not n.startswith(ADDED)]
    if extra:
        notice(f"table {table}: unknown column {', '.join(extra)} kept as it is")
    for column in known.values():
        part = _typed(part, column, path)
    return part.replace_schema_metadata(None)


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
