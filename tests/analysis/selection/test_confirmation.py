"""The confirmed selection of a cell, where runs or counts are missing, and its table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis import open_results
from analysis.lake.run_folder import STUDY, table_folder
from analysis.report.section import VIEWS
from analysis.selection.in_words import selection_in_words
from analysis.selection.selection import Cell, cells
from tests.analysis.planted import Plan, write

PLAN = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),), trials=6)


def confirmed(folder: Path, *numbers: int, protocol: dict | None = None) -> Path:
    """Write a lake whose trials `numbers` are confirmed."""
    write(folder, Plan(**{**vars(PLAN), "confirmed": numbers}))
    study = yaml.safe_load((folder / STUDY).read_text())
    study["protocol"].update(protocol or {})
    (folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False))
    return folder


def only(folder: Path) -> Cell:
    (cell,) = cells(open_results(folder))
    return cell


def test_without_a_confirming_run_of_the_default_no_difference_is_shown(tmp_path: Path) -> None:
    folder = confirmed(tmp_path / "run", 2, 3)
    section = VIEWS["selected_trials"](open_results(folder))
    assert "so the difference is not known" in section.text
    assert list(section.table["trial"]) == [str(one.trial) for one in only(folder).confirmation.candidates]
    assert section.table[["difference", "low", "high", "P(better)"]].isna().all(axis=None)


def test_without_counts_the_spread_of_the_runs_is_the_noise(tmp_path: Path) -> None:
    """A noise of zero would narrow the interval by a third."""
    folder = confirmed(tmp_path / "run", 0, 2)
    (whole,) = only(folder).confirmation.candidates
    for table in ("confusion", "classes"):
        shutil.rmtree(table_folder(folder, table))
    (found,) = only(folder).confirmation.candidates
    assert found.high - found.low == pytest.approx(whole.high - whole.low, rel=0.1)


@pytest.mark.parametrize(("direction", "side"), [("max", "Above"), ("min", "Below")])
def test_the_table_says_on_which_side_of_zero_a_trial_is_better(
    tmp_path: Path, direction: str, side: str
) -> None:
    folder = confirmed(tmp_path / "run", 0, 2)
    study = yaml.safe_load((folder / STUDY).read_text())
    study["search"]["objective"] = {"average_incremental_accuracy": direction}
    (folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False))
    section = VIEWS["selected_trials"](open_results(folder))
    assert f"{side} zero the trial is better" in section.text
    row = section.table.iloc[1]
    assert np.sign(row["difference"]) == np.sign(row["P(better)"] - 0.5) * (1 if direction == "max" else -1)
    assert selection_in_words(open_results(folder), only(folder))
