"""Contracts that every view keeps, to be run on your own over a run's folder.

from analysis.testing import check_view
check_view("mypkg.views:mine", "runs/quickstart")     # raises AssertionError with a line for each
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from cl_core.contract import contracts_of, outcomes, require
from cl_core.records import TABLES


def _emptied(results: Results) -> Results:
    """The same run before any of its runs has ended."""
    out = Results(results.folder)
    for table in TABLES:
        setattr(out, table, getattr(results, table).iloc[:0])
    return out


def it_takes_results_alone_and_states_its_question(name: str, results: Results) -> None:
    view = VIEWS[name]
    assert len(inspect.signature(view).parameters) == 1, "a view is a function of the results alone"
    assert view.__doc__, "it has no docstring: the list of views shows its first sentence"
    assert importlib.import_module(view.__module__).__doc__, f"{view.__module__} has no docstring"


def it_gives_a_whole_section(name: str, results: Results) -> None:
    found = VIEWS[name](results)
    assert isinstance(found, Section), f"it gives a {type(found).__name__}"
    assert found.title, "the section has no title"
    assert found.text.rstrip().endswith((".", "!", "?")), "its text is a sentence or more"
    assert all(len(table.frame) and table.title for table in found.tables), "a table is empty or untitled"
    if found.figure is None:
        assert found.table is None or len(found.table), "its table is empty"
        return
    assert isinstance(found.figure, go.Figure)
    assert found.formulas, "a figure states its formula"
    assert found.n.startswith("n = "), "a figure states its n"
    assert found.tables or (found.table is not None and len(found.table)), (
        "a figure has its numbers beside it"
    )
    json.loads(found.figure.to_json())


def of_an_empty_run_it_says_so_and_shows_nothing(name: str, results: Results) -> None:
    found = VIEWS[name](_emptied(results))
    assert found.bare, "it shows something of nothing"
    assert found.text.startswith("No "), f"it says {found.text[:40]!r}, which must begin with 'No '"


def it_changes_no_table_and_gives_the_same_twice(name: str, results: Results) -> None:
    before = results.runs.copy()
    first, second = VIEWS[name](results), VIEWS[name](results)
    pd.testing.assert_frame_equal(results.runs, before)
    assert first.text == second.text
    if first.table is not None:
        assert second.table is not None
        pd.testing.assert_frame_equal(first.table, second.table)
    if first.figure is not None:
        assert second.figure is not None
        assert first.figure.to_json() == second.figure.to_json()


VIEW_CONTRACTS = contracts_of(globals())


def check_view(name: str, folder: str | Path) -> None:
    """Run every contract on a view over the run in `folder`. Raises AssertionError, BadRequest."""
    require(name, outcomes(VIEW_CONTRACTS, name, open_results(folder)))
