"""Rows to Parquet, where they happen: one file a trial and table, rewritten as a whole after each task.

A file is written aside (its name begins with a dot, which readers pass over) and renamed, so a reader sees
every row of a trial once at any moment. `gather` merges the files of ended trials into one sorted file a
table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from cl_core.aside import aside
from cl_core.errors import BadRequest, TrialError
from cl_core.hparams import HParam, hparams
from cl_core.method import METHODS
from cl_core.recipe import Recipe
from cl_core.records import SCHEMA_VERSION, SORT, TABLES, columns

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_VERSION_KEY = b"cl_search_schema_version"
GATHERED = "gathered.parquet"
SCHEMA = "schema.parquet"

Schemas = Mapping[str, pa.Schema]


def file_of(trial: str) -> str:
    """The name of a trial's file, without ending: no part of a trial's name makes a folder."""
    return trial.replace("/", "--").replace(":", "-")


def tables_of(folder: Path) -> Path:
    """Where a run's tables lie."""
    return folder / "tables"


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
        "trials": [
            *hp_fields,
            *(pa.field(f"recipe.{part}.{n}", t) for part in ("base", "increment") for n, t in recipe),
        ],
        "stages": [*hp_fields, *(pa.field(f"recipe.{n}", t) for n, t in recipe)],
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
                _write(part, _conform(pq.read_table(part, partitioning=None), schema))


def write_rows(
    folder: Path, table: str, trial: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Put all rows of one trial in its file. Raises TrialError where the disk does not take them."""
    for row in rows:
        for name in row:
            if name not in schema.names:
                raise KeyError(f"table {table!r} has no column {name!r}")
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    _write(
        tables_of(folder) / table / f"{file_of(trial)}.parquet", pa.Table.from_pylist(filled, schema=schema)
    )


def read_rows(folder: Path, table: str, trial: str) -> list[dict[str, Any]]:
    """The rows of one trial in its file; none where there is no file or it is damaged."""
    path = tables_of(folder) / table / f"{file_of(trial)}.parquet"
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):
        return []
    return rows


def drop_trial(folder: Path, trial: str, tables: Iterable[str] = tuple(TABLES)) -> None:
    """Remove a trial's files, for a run that begins anew."""
    for table in tables:
        (tables_of(folder) / table / f"{file_of(trial)}.parquet").unlink(missing_ok=True)


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """The row of the `trials` table of every trial that has ended, by trial."""
    place = tables_of(folder) / "trials"
    out: dict[str, dict[str, Any]] = {}
    if (place / GATHERED).exists():
        out = {row["trial"]: row for row in pq.read_table(place / GATHERED, partitioning=None).to_pylist()}
    for path in sorted(place.glob("[!.]*.parquet")):
        if path.name in (GATHERED, SCHEMA):
            continue
        try:
            rows = pq.read_table(path, partitioning=None).to_pylist()
        except (FileNotFoundError, pa.ArrowInvalid):
            continue
        out |= {row["trial"]: row for row in rows}
    return out


def drop_damaged(folder: Path) -> list[str]:
    """Remove every file of the trials of which one is damaged or gone, so that they are trained again.

    Returns the names of their files. Only the ending of a file is looked at: files are renamed into place
    whole. The caller holds the run's lock. Raises BadRequest where a gathered file is damaged: it holds many.
    """
    bad: set[str] = set()
    for table in TABLES:
        place = tables_of(folder) / table
        bad |= {path.stem for path in _own(place) if not _is_whole(path)}
        if not _is_whole(place / SCHEMA):
            (place / SCHEMA).unlink()  # `start_tables` writes it again
        if (place / GATHERED).exists() and not _is_whole(place / GATHERED):
            raise BadRequest(
                f"{place / GATHERED} is damaged: restore it from a copy, or remove the folder's tables/ and "
                "optuna.journal and run again"
            )
    ended = {path.stem for path in _own(tables_of(folder) / "trials")} - bad
    rows = recorded(folder) if ended else {}
    failed = {file_of(trial) for trial, row in rows.items() if row["status"] == "failed"}
    for table in (name for name in TABLES if name != "trials"):
        place = tables_of(folder) / table
        gone = ended - failed - {path.stem for path in _own(place)}
        if gone and (place / GATHERED).exists():
            merged = pq.read_table(place / GATHERED, columns=["trial"], partitioning=None)["trial"]
            gone -= {file_of(trial) for trial in pc.unique(merged).to_pylist()}
        bad |= gone
    for table in TABLES:
        for stem in bad:
            (tables_of(folder) / table / f"{stem}.parquet").unlink(missing_ok=True)
    return sorted(bad)


def _own(place: Path) -> list[Path]:
    """The files of single trials."""
    return [path for path in place.glob("[!.]*.parquet") if path.name not in (GATHERED, SCHEMA)]


def _is_whole(path: Path) -> bool:
    """Whether a Parquet file has its ending; a file that a run has just removed is not damaged."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < 12:
                return False
            file.seek(-4, os.SEEK_END)
            return file.read() == b"PAR1"
    except FileNotFoundError:
        return True


def while_gathering(folder: Path) -> FileLock:
    """The lock under which files are merged."""
    return FileLock(tables_of(folder) / ".gather.lock")


def gather(folder: Path) -> dict[str, int]:
    """Merge the files of ended trials into one sorted file a table; returns the rows of each.

    Safe while a run writes: trials that have not ended, and failed ones, which may be run again, keep their
    files. A trial that stands in both (a crash in between) is taken from its own file.
    """
    if not (tables_of(folder) / "trials").is_dir():
        raise BadRequest(f"gather needs the folder of a run: {folder} has no tables; name the run's folder")
    with while_gathering(folder):
        for table in TABLES:  # all before any: a trial is merged in every table or in none
            for path in tables_of(folder).glob(f"{table}/[!.]*.parquet"):
                if not _is_whole(path):
                    raise BadRequest(
                        f"{path} is damaged: run the study again, which trains such trials anew, then gather"
                    )
        ended = {trial for trial, row in recorded(folder).items() if row["status"] != "failed"}
        return {table: _gather_table(tables_of(folder) / table, table, ended) for table in TABLES}


def _gather_table(place: Path, table: str, ended: set[str]) -> int:
    schema = pq.read_schema(place / SCHEMA)
    parts = [place / f"{file_of(trial)}.parquet" for trial in sorted(ended)]
    parts = [p for p in parts if p.exists()]
    fresh = [_conform(pq.read_table(p, partitioning=None), schema) for p in parts]
    whole = pa.concat_tables([schema.empty_table(), *fresh])
    target = place / GATHERED
    if target.exists():
        old = _conform(pq.read_table(target, partitioning=None), schema)
        again = pc.unique(whole["trial"])
        whole = pa.concat_tables([whole, old.filter(pc.invert(pc.is_in(old["trial"], value_set=again)))])
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
    try:
        with aside(path) as hidden:
            pq.write_table(table, hidden, compression="zstd")
    except OSError as error:
        raise TrialError(
            f"tables must be writable: {path.parent}: {error}; free space and run again"
        ) from error
