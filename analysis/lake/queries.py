"""A database over the tables of a lake, with the metrics of all runs as further tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
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
                for name in ("task_metrics", "accuracy_matrix", "run_metrics"):
                    self._at.execute(f"drop view {name}; create table {name} as {QUERIES[name]}")
                    self._kept.add(name)
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
        for name, rows in zip(("splits", "pairs"), _pairs(self._splits), strict=True):
            at.from_arrow(rows).create(name)
        # Names are long, so the tables keep their numbers.
        _enumerate(at, "run", "runs")
        at.execute(
            "create table numbering as select run::run_name as run, first, classes "
            "from runs join splits using (base, increments)"
        )
        at.execute(f"create table counted as {QUERIES['task_counts']}")
        _enumerate(at, "split", "counted")
        _enumerate(at, "classifier", "counted")
        at.execute(
            "create table task_counts as select * replace (split::split_name as split, "
            "classifier::classifier_name as classifier) from counted"
        )
        at.execute("drop table counted")
        for name, text in QUERIES.items():
            if name != "task_counts":
                at.execute(f"create view {name} as {text}")
        self._at, self._kept = at, {"task_counts"}


def _enumerate(at: duckdb.DuckDBPyConnection, column: str, table: str) -> None:
    """Make the type of the values that a column has."""
    at.execute(f"create type {column}_name as enum (select distinct {column} from {table} order by {column})")


def _pairs(splits: Splits) -> tuple[pa.Table, pa.Table]:
    """Number the pairs of classes: where those of each split begin, and `pairs` of `metric_queries`."""
    home = [np.repeat(np.arange(len(sizes)), sizes) for sizes in splits.values()]
    classes = np.array([len(one) for one in home], dtype=np.int64)
    ends = np.cumsum(classes**2)
    known = {
        "base": pa.array([base for base, _ in splits], pa.int64()),
        "increments": pa.array([increments for _, increments in splits], pa.string()),
        "first": ends - classes**2,
        "classes": classes,
    }
    tasks = {
        "pair": np.arange(ends[-1] if len(ends) else 0),
        "task": np.concatenate([[], *(np.repeat(one, len(one)) for one in home)]).astype(np.int64),
        "answered_task": np.concatenate([[], *(np.tile(one, len(one)) for one in home)]).astype(np.int64),
    }
    return pa.table(known), pa.table(tasks)
