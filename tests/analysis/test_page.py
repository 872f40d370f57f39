"""The page of analysis: its generated tables are those that the code gives."""

from __future__ import annotations

import re

import pytest

from cl_core.records import TABLES, Identity, columns
from tests.analysis.page import GENERATED, comments, written


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_table_of_the_page_is_current(name: str) -> None:
    assert written(name) == GENERATED[name](), "renew it: python -m tests.analysis.page --write"


def test_the_comment_of_a_field_is_its_meaning() -> None:
    assert comments(TABLES["runs"])["trial"] == "number of the trial in its cell"
    assert "stopper" in comments(TABLES["runs"])["audited_after"]


def test_every_column_but_the_shared_ones_stands_on_the_page() -> None:
    page = written("columns")
    shared = set(Identity.__annotations__)
    assert all(f"| `{c.name}` |" in page for table in TABLES for c in columns(table) if c.name not in shared)


@pytest.mark.parametrize("name", GENERATED)
def test_every_row_of_a_table_has_the_cells_of_its_head(name: str) -> None:
    """A | within a cell is escaped."""
    columns_before = 0
    for line in written(name).splitlines():
        found = len(re.findall(r"(?<!\\)\|", line))
        assert not columns_before or not found or found == columns_before, line
        columns_before = found


@pytest.mark.parametrize("name", ["columns", "metrics"])
def test_no_subscript_ends_within_a_word(name: str) -> None:
    """`A_new` would have the subscript n alone: longer ones are written `A_{new}`."""
    text = GENERATED[name]()
    assert not re.findall(r"\w*</sub>[a-z]\w*", text)
    assert not re.findall(r"\w_\{", text)
