"""The confirmed selection of a cell, where runs or counts are missing, and its table."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import open_results
from analysis.lake.run_folder import table_folder
from analysis.report.section import VIEWS
from analysis.selection.in_words import selection_in_words
from analysis.selection.selection import Cell, cells
from cl_core.records import OWN_DEFAULT
from tests.analysis.planted import Plan, write

PLAN = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),), trials=6)


def confirmed(folder: Path, *numbers: int, **plan: Any) -> Path:
    """Write a lake whose trials `numbers` are confirmed."""
    return write(folder, replace(PLAN, confirmed=numbers, **plan))


def only(folder: Path) -> Cell:
    (cell,) = cells(open_results(folder))
    return cell


@pytest.mark.parametrize(("start_from", "number"), [(("paper",), 0), ((), OWN_DEFAULT)])
def test_the_default_is_kept_where_none_of_its_confirming_runs_has_completed(
    tmp_path: Path, start_from: tuple[str, ...], number: int
) -> None:
    folder = confirmed(tmp_path / "run", 2, 3, start_from=start_from)
    cell, section = only(folder), VIEWS["selected_trials"](open_results(folder))
    assert cell.confirmation.kept
    assert cell.selected_trial == number
    assert set(cell.selected["trial"]) == ({number} if number == 0 else set())
    assert (
        "kept the default: it has no completed run on the fresh class orders, so no trial can" in section.text
    )
    assert list(section.table["trial"]) == [
        "default",
        *map(str, (o.trial for o in cell.confirmation.candidates)),
    ]
    assert list(section.table["selection"]) == ["kept the default", "", ""]
    assert section.table[["gain", "low", "high", "P(better)"]].isna().all(axis=None)


def test_without_counts_the_spread_of_the_runs_is_the_noise(tmp_path: Path) -> None:
    """A noise of zero would narrow the interval by a third."""
    folder = confirmed(tmp_path / "run", 0, 2)
    (whole,) = only(folder).confirmation.candidates
    for table in ("confusion", "classes"):
        shutil.rmtree(table_folder(folder, table))
    (found,) = only(folder).confirmation.candidates
    assert found.high - found.low == pytest.approx(whole.high - whole.low, rel=0.2)


@pytest.mark.parametrize(("direction", "side"), [("max", "Above"), ("min", "Below")])
def test_the_table_says_on_which_side_of_zero_a_trial_is_better(
    tmp_path: Path, direction: str, side: str
) -> None:
    folder = confirmed(tmp_path / "run", 0, 2, direction=direction)
    section = VIEWS["selected_trials"](open_results(folder))
    assert f"{side} zero the trial is better" in section.text
    row = section.table.iloc[1]
    assert np.sign(row["gain"]) == np.sign(row["P(better)"] - 0.5) * (1 if direction == "max" else -1)
    assert selection_in_words(open_results(folder), only(folder))


def test_a_selected_default_that_the_search_has_not_tried_has_a_name_and_no_gap(tmp_path: Path) -> None:
    folder = confirmed(tmp_path / "run", OWN_DEFAULT, 1, 3, start_from=(), evaluated=True)
    cell = only(folder)
    assert (cell.selected_trial, cell.selected_name) == (OWN_DEFAULT, "default")
    results = open_results(folder)
    assert list(VIEWS["leaderboard"](results).table["trial"]) == ["default"]
    assert "trial -1" not in VIEWS["final"](results).figure.to_json()
    gap = VIEWS["selection_gap"](results)
    assert gap.table is None
    assert "Left out, as the search has not tried the selected default: lwf@B0-3tasks." in gap.text


@pytest.mark.parametrize(("direction", "given"), [("max", True), ("min", False)])
def test_luck_of_rows_is_that_of_the_best_seen_alone(tmp_path: Path, direction: str, given: bool) -> None:
    """Trial 0 has the greatest accuracy, so it is not the best seen where the smallest is sought."""
    folder = confirmed(tmp_path / "run", 0, 1, direction=direction, evaluated=True)
    cell = only(folder)
    assert (cell.selected_trial == cell.ranking["trial"].iloc[0]) == given
    table = VIEWS["selection_gap"](open_results(folder)).table
    assert ("luck of rows" in table) == given
