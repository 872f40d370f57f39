"""The Arrow schema of the tables: the columns of `cl_core.records`, and those that a study adds."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from cl_core.records import SCHEMA_VERSION, TABLES, columns

ARROW: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
}
VERSION_KEY = b"cl_search_schema_version"
ADDED = ("hp.", "recipe.")  # prefixes of the columns that a study adds


def table_schema(table: str, added: Mapping[str, type] | None = None) -> pa.Schema:
    """Return the schema of one table with the columns `added`, in order, and the schema version."""
    fields = {**{column.name: column.type for column in columns(table)}, **(added or {})}
    return pa.schema(
        [pa.field(name, ARROW[kind]) for name, kind in fields.items()],
        metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )


def study_schemas(hyperparameters: Mapping[str, type], recipe: Mapping[str, type]) -> dict[str, pa.Schema]:
    """Return the schema of every table for a study with these hyperparameters and recipe values.

    The table `runs` has the recipe of the base task and of the increments, `tasks` the one that was used.
    """
    hp = {f"hp.{name}": kind for name, kind in sorted(hyperparameters.items())}
    both = {f"recipe.{part}.{name}": kind for part in ("base", "increment") for name, kind in recipe.items()}
    added = {"runs": hp | both, "tasks": hp | {f"recipe.{name}": kind for name, kind in recipe.items()}}
    return {table: table_schema(table, added.get(table)) for table in TABLES}
