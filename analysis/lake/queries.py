"""A database over the tables of a lake, with the metrics of all runs as further tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import duckdb
import pyarrow as pa

from analysis.lake.relation import Relation, connect
from cl_core.errors import BadRequest, first_line
from cl_core.metric_queries import QUERIES
from cl_core.records import TABLES

Scan = Callable[[duckdb.DuckDBPyConnection, str], duckdb.DuckDBPyRelation]
Splits = Mapping[tuple[int, str], Sequence[int]]
"""Columns base and increments of the table `runs` -> the classes of every task."""


def query(sql: str, scan: Scan, splits: Splits) -> Relation:
    """The rows of a query in SQL over the tables and QUERIES, not read yet.

    `scan` gives the rows of a table in a database. Raises BadRequest where `sql` is no query over them.
    """
    at = connect()
    for name in TABLES:
        scan(at, name).create_view(name)
    at.from_arrow(_homes(splits)).create("homes")
    for name, text in QUERIES.items():
        at.execute(f"create view {name} as {text}")
    try:
        return Relation(at.sql(sql))
    except duckdb.Error as error:
        known = ", ".join([*TABLES, *QUERIES])
        raise BadRequest(f"{sql!r} must be a query over {known}: {first_line(error)}") from error


def _homes(splits: Splits) -> pa.Table:
    """The task of every class."""
    rows = [
        {"base": base, "increments": increments, "sizes": number, "class": c, "task": task}
        for number, ((base, increments), sizes) in enumerate(splits.items())
        for c, task in enumerate(task for task, size in enumerate(sizes) for _ in range(size))
    ]
    whole = [(name, pa.int64()) for name in ("base", "sizes", "class", "task")]
    return pa.Table.from_pylist(rows, schema=pa.schema([("increments", pa.string()), *whole]))
