"""Early stopping in the report: false stops, and what was saved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.lake.open import open_results
from analysis.report.page import section
from tests.analysis.planted import Plan, write
from tests.analysis.planted_tables import lake_with


def test_the_rate_of_false_stops_is_that_of_audited_trials_that_would_have_won(lake):
    changes = {
        0: {"objective": 0.5},
        1: {"objective": 0.6, "audited_after": 1},
        2: {"objective": 0.4, "audited_after": 2},
    }
    results, first = lake_with(lake, changes)
    results.study = replace(results.study, stopper="asha")
    found = section(results, "early_stopping")
    row = found.table[(found.table["label"] + "@" + found.table["scenario"]) == first].iloc[0]
    assert (row["audited"], row["false stops"], row["false stop rate"]) == (2, 1, 0.5)
    assert row["loss"] == pytest.approx(0.1)
    assert "Stopper: asha." in found.text
    assert "2 ran on as an audit. 1 of them (50%, 95 % interval 1% to 99%)" in found.text
    assert "in 1 of 1 cell with an audit (100%), the trial that would have won" in found.text


def test_a_rate_per_trial_is_told_from_the_share_of_cells_that_lost_their_winner(lake):
    """One false stop of one audited, and one more stopped: two false stops are expected in that cell."""
    changes = {
        0: {"objective": 0.5},
        1: {"objective": 0.6, "audited_after": 1},
        2: {"status": "stopped", "tasks_done": 2},
    }
    results, first = lake_with(lake, changes)
    results.study = replace(results.study, stopper="asha")
    found = section(results, "early_stopping")
    row = found.table[(found.table["label"] + "@" + found.table["scenario"]) == first].iloc[0]
    assert (row["to be stopped"], row["false stop rate"], row["false stops expected"]) == (2, 1.0, 2.0)
    assert "at least: those that did not run on are not known. A cell had 2 trials" in found.text
    assert "at most 100% of cells (95 % interval 5% to 100%)" in found.text


def test_a_study_without_a_stopper_has_no_section_on_stopping(kept_lake):
    found = section(open_results(kept_lake), "early_stopping")
    assert found.optional
    assert found.bare


def test_a_trial_that_ends_between_two_runs_counts_as_stopped_and_saves_those_to_come(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=3, orders=4)
    folder = write(tmp_path / "run", plan)
    for order in (2, 3):  # the race ended trial 1 after two class orders
        (folder / f"tables/runs/lwf@B0-3tasks--1--seed-{order}--s0.parquet").unlink()
        (folder / f"tables/tasks/lwf@B0-3tasks--1--seed-{order}--s0.parquet").unlink()
    results = open_results(folder)
    results.study = replace(results.study, stopper="wilcoxon")
    (row,) = section(results, "early_stopping").table.to_dict("records")
    assert (row["trials"], row["stopped"]) == (3, 1)
    assert (row["tasks trained"], row["tasks saved"]) == (30, 6)
    assert row["share saved"] == pytest.approx(6 / 36)


def test_a_run_that_is_stopped_saves_its_tasks_and_the_runs_that_never_start(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-4tasks", (2, 2, 2, 2)),), trials=3, orders=3, stopped=(2,))
    folder = write(tmp_path / "run", plan)
    for order in (1, 2):
        for table_ in ("runs", "tasks"):
            (folder / f"tables/{table_}/lwf@B0-4tasks--2--seed-{order}--s0.parquet").unlink()
    results = open_results(folder)
    results.study = replace(results.study, stopper="asha")
    (row,) = section(results, "early_stopping").table.to_dict("records")
    assert row["stopped"] == 1
    assert row["tasks trained"] == 2 * 3 * 4 + 2
    assert row["tasks saved"] == 2 + 2 * 4
