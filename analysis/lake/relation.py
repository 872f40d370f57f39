"""Rows of the lake that are read when they are asked for, as DuckDB, Arrow, pandas or Polars."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pyarrow as pa

from cl_core.errors import BadRequest, first_line, unknown
from cl_core.records import TABLES, columns

if TYPE_CHECKING:
    import polars as pl

MEMORY = "1GB"  # of DuckDB; what needs more is written to the disk meanwhile
THREADS = 4  # of DuckDB: each needs some 125 MB, so a sort by all 64 cores of a machine fails


@dataclass(frozen=True)
class Relation:
    """Rows that are not read yet: `select` and `where` narrow them, the four views read them.

    from analysis import open_results
    open_results("runs/quickstart").table("confusion").where("after_task = 4").select("run", "count").arrow()
    """

    rows: duckdb.DuckDBPyRelation

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.rows.columns)

    def select(self, *names: str) -> Relation:
        """Keep some columns. Raises BadRequest on an unknown one."""
        for name in names:
            if name not in self.columns:
                raise unknown("column", name, self.columns)
        return Relation(self.rows.project(", ".join(map(quoted, names)) or "*"))

    def where(self, condition: str) -> Relation:
        """Keep the rows that pass a condition in SQL. Raises BadRequest where it is none."""
        try:
            return Relation(self.rows.filter(condition))
        except duckdb.Error as error:
            raise BadRequest(f"{condition!r} must be a condition in SQL: {first_line(error)}") from error

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """Return a relation of DuckDB, not read yet."""
        return self.rows

    def arrow(self) -> pa.Table:
        """Read an Arrow table. Raises BadRequest where files were merged meanwhile, or cannot be read."""
        try:
            return self.rows.to_arrow_table()
        except duckdb.IOException as error:
            moved = "No files found" in str(error) or "No such file" in str(error)
            reason = "the tables have changed, so query them again" if moved else "cannot read the tables"
            raise BadRequest(f"{reason}: {first_line(error)}") from error

    def pandas(self) -> pd.DataFrame:
        """Read a pandas frame: integers and booleans that may be missing are `Int64` and `boolean`."""
        return frame(self.arrow())

    def polars(self) -> pl.DataFrame:
        """Read a Polars frame. Raises BadRequest where Polars is not installed."""
        try:
            import polars
        except ImportError as error:
            raise BadRequest("polars() needs Polars: pip install polars, or take pandas()") from error
        found = polars.from_arrow(self.arrow())
        assert isinstance(found, polars.DataFrame)
        return found


def connect(memory: str = MEMORY, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that reads Parquet files and needs no network.

    What needs more than `memory` goes to the folder `spill` meanwhile, one for temporary files unless given.
    """
    place = Path(tempfile.gettempdir()) / f"cl-search-{os.getpid()}" if spill is None else spill
    return duckdb.connect(
        config={
            "memory_limit": memory,
            "threads": min(THREADS, os.cpu_count() or 1),
            "temp_directory": str(place),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a pandas frame. Its types follow from the columns' names and types, not from the values."""
    always = _never_null()
    whole = [pa.types.is_integer(field.type) or pa.types.is_boolean(field.type) for field in table.schema]
    nullable = [
        field.name
        for index, field in enumerate(table.schema)
        if whole[index] and (field.name not in always or table.column(index).null_count)
    ]
    found: pd.DataFrame = table.to_pandas()
    kinds = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    return found.assign(**table.select(nullable).to_pandas(types_mapper=kinds.get)) if nullable else found


@cache
def _never_null() -> frozenset[str]:
    every = [column for table in TABLES for column in columns(table)]
    return frozenset(c.name for c in every) - {c.name for c in every if c.nullable}
