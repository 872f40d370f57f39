"""A database over the tables of a lake, with the metrics of all runs as further tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from analysis.lake.relation import Relation, connect, quoted
from analysis.lake.tables import steadily
from cl_core.errors import BadRequest, first_line
from cl_core.metric_queries import QUERIES
from cl_core.records import TABLES

Scan = Callable[[duckdb.DuckDBPyConnection, str], duckdb.DuckDBPyRelation]
Splits = Mapping[tuple[int, str], Sequence[int]]
"""Columns base and increments of the table `runs` -> the classes of every task."""

# DuckDB's own `get_table_names` fails on views of Parquet files.
_METRICS = re.compile(rf"\b({'|'.join(QUERIES)})\b", re.IGNORECASE)


class Database:
    """The tables of a lake and QUERIES in DuckDB.

    Task counts and run metrics are made once, when first needed. `scan` gives the rows of a table in a
    database; `places` are the folders that the counts are read from.
    """

    def __init__(self, scan: Scan, splits: Splits, places: Sequence[Path] = ()) -> None:
        self._scan, self._splits, self._places = scan, splits, places
        self._kept: set[str] = set()
        self._at = self._listed(connect())

    def query(self, sql: str) -> Relation:
        """The rows of a query in SQL, not read yet. Raises BadRequest where it is none over the tables."""
        try:
            asked = set(map(str.lower, _METRICS.findall(sql)))
            if asked and not self._kept:
                steadily(self._places, self._count)
            if "run_metrics" in asked - self._kept:
                self._at.execute(
                    f"drop view run_metrics; create table run_metrics as {QUERIES['run_metrics']}"
                )
                self._kept.add("run_metrics")
            rows = self._rows(sql)
        except duckdb.Error as error:
            known = ", ".join([*TABLES, *QUERIES])
            raise BadRequest(f"{sql!r} must be a query over {known}: {first_line(error)}") from error
        types = zip(rows.columns, rows.types, strict=True)
        columns = [(quoted(name), str(kind).startswith("ENUM")) for name, kind in types]
        return Relation(rows.project(", ".join(f"{n}::varchar as {n}" if enum else n for n, enum in columns)))

    def _rows(self, sql: str) -> duckdb.DuckDBPyRelation:
        try:
            return self._at.sql(sql)
        except duckdb.IOException:  # files have been merged since they were listed
            return self._listed(self._at).sql(sql)

    def _listed(self, at: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        for name in TABLES:
            self._scan(at, name).create_view(name)
        return at

    def _count(self) -> None:
        at = self._listed(connect())
        at.from_arrow(_homes(self._splits)).create("homes")
        at.execute("create type run_name as enum (select distinct run from runs order by run)")
        for name, text in QUERIES.items():
            if name == "task_counts":  # a name of a run is long, so the table keeps its number
                text = f"select * replace (run::run_name as run) from ({text})"
            at.execute(f"create {'table' if name == 'task_counts' else 'view'} {name} as {text}")
        self._at, self._kept = at, {"task_counts"}


def _homes(splits: Splits) -> pa.Table:
    """The task of every class."""
    rows = [
        {"base": base, "increments": increments, "sizes": number, "class": c, "task": task}
        for number, ((base, increments), sizes) in enumerate(splits.items())
        for c, task in enumerate(task for task, size in enumerate(sizes) for _ in range(size))
    ]
    whole = [(name, pa.int64()) for name in ("base", "sizes", "class", "task")]
    return pa.Table.from_pylist(rows, schema=pa.schema([("increments", pa.string()), *whole]))
