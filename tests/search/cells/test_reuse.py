"""Trials that share a training: they equal trials trained alone, train nothing, and are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import open_results
from analysis.lake.results import Results
from analysis.selection.trials import best_of_trainings, proposed
from cl_core.records import REUSED, columns, trained_by
from search import run_study
from search.cells import cell_study
from search.cells.cell_progress import TrialStatus, best_trials, cell_progress, read_progress
from search.cells.stoppers import Course, Stopper
from search.lake.writer import drop_run
from spaces.resolved.resolve import resolve
from spaces.study.study_file import parse_study
from tests import tiny

STUDY: dict[str, Any] = {
    "study": "reuse",
    "data": {"name": "synthetic", "classes": 7, "per_class": 16},
    "scenarios": ["B3-2tasks"],
    "methods": {
        "icarl": {"exemplars_per_class": 5, "classifier": {"choice": ["nearest-mean", "head"]}},
    },
    "recipe": {"epochs": 1, "batch": 16, "lr": 0.05},
    "search": {"trials": 3, "reuse": True, "sampler": "random"},
    "protocol": {"validation": 0.2},
}
CELL = "icarl@B3-2tasks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reuse") / "run"
    run_study(STUDY, out, local=True)
    return out


def rows_of(results: Results, table: str, trial: int) -> pd.DataFrame:
    """Return the rows of a trial, without its names and what may differ between equal runs."""
    volatile = {column.name for column in columns(table) if column.volatile}
    left_out = volatile | {"cell", "label", "run", "trial", "reuses", "checkpoint"}
    frame: pd.DataFrame = getattr(results, table)
    mine = frame[frame["run"] == f"{CELL}/{trial}"].reset_index(drop=True)
    return mine.drop(columns=[name for name in left_out if name in mine])


def test_a_reused_trial_has_the_rows_of_one_trained_alone(folder: Path, tmp_path: Path) -> None:
    reused = open_results(folder)
    found = reused.runs.set_index("trial")
    assert sorted(found.index) == [0, 1, 2, REUSED, REUSED + 1, REUSED + 2]
    for trial in range(3):
        first, other = found.loc[trial], found.loc[REUSED + trial]
        assert {first["hp.classifier"], other["hp.classifier"]} == {"nearest-mean", "head"}
        assert other["reuses"] == trial
        assert pd.isna(first["reuses"])
        names = [n for n in found if n.startswith(("hp.", "recipe.")) and n != "hp.classifier"]
        assert first[names].equals(other[names])
    # The same values, each trained from scratch as the only trial of a study.
    for number in (REUSED, REUSED + 1):
        row = found.loc[number]
        fixed = {"classifier": row["hp.classifier"], "exemplars_per_class": 5}
        fixed["old_weight"] = float(row["hp.old_weight"])
        out = tmp_path / str(number)
        alone = {**STUDY, "methods": {"icarl": fixed}, "search": {"trials": 1}}
        run_study(alone, out, local=True)
        single = open_results(out)
        for table in ("tasks", "phases", "classes", "confusion", "runs"):
            theirs, own = rows_of(single, table, 0), rows_of(reused, table, number)
            if table == "runs":  # the digest of a trial names its searched values alone
                theirs, own = (frame.drop(columns="trial_digest") for frame in (theirs, own))
            pd.testing.assert_frame_equal(own, theirs[list(own)])


def test_a_reused_trial_trains_nothing_and_its_tasks_say_so(folder: Path) -> None:
    tasks = open_results(folder).tasks
    mine = tasks["run"].str.contains("/10000")
    assert tasks.loc[mine, "shared"].all()
    assert (~tasks.loc[~mine & (tasks["task"] > 0), "shared"]).all()
    assert (tasks["seconds"] > 0).all()


def test_progress_counts_reused_trials_and_a_finished_folder_does_nothing_more(folder: Path) -> None:
    (cell,) = read_progress(folder)
    assert (cell.budget, cell.completed) == (6, 6)
    assert not run_study(STUDY, folder, local=True).worked


def test_values_that_only_answer_are_listed_for_no_trial_that_has_them_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    monkeypatch.setattr(cell_study, "other_answers", lambda *given: listed.append(given) or [])
    run_study(STUDY, folder, local=True)
    assert listed == []


def test_a_reused_trial_whose_rows_are_lost_is_made_again(folder: Path) -> None:
    before = rows_of(open_results(folder), "confusion", REUSED)
    drop_run(folder, f"{CELL}/{REUSED}")
    assert run_study(STUDY, folder, local=True).worked
    pd.testing.assert_frame_equal(rows_of(open_results(folder), "confusion", REUSED), before)


def test_reuse_needs_a_searched_choice_that_only_answers() -> None:
    def resolved(**change: Any) -> Any:
        study = parse_study({**STUDY, "protocol": {"validation": 0.2, "confirm": "none"}, **change})
        return resolve(study, tiny.data())

    def cell(**change: Any) -> Any:
        return resolved(**change).cells[0]

    assert resolved().table()[0]["budget"] == "3, 1 reused beside each"

    assert cell().reused == 1
    assert cell(search={"trials": 3, "reuse": False}).reused == 0
    assert cell(methods={"icarl": {"exemplars_per_class": {"choice": [5, 10]}}}).reused == 0
    both = {"classifier": {"choice": ["nearest-mean", "head"]}, "flip_means": {"choice": [True, False]}}
    assert cell(methods={"icarl": both}).reused == 3
    grid = {"classifier": {"choice": ["nearest-mean", "head"]}, "old_weight": 1.0}
    assert cell(methods={"icarl": grid}, search={"trials": 3, "reuse": True, "sampler": "grid"}).reused == 0


def test_reused_trials_are_no_rivals_and_end_only_where_a_task_would_be_trained() -> None:
    stopper = Stopper("asha", {"reduction_factor": 2, "gentle": False}, 4, ["natural"])
    good = [Course(n, {1: 0.8, 2: 0.8, 3: 0.8}) for n in range(2)]
    reused = [Course(REUSED + n, {1: 0.9}) for n in range(2)]
    own = Course(2, {1: 0.8})
    assert not stopper.should_stop(own, 1, [*good, *reused, own])
    bad = Course(REUSED, {1: 0.1})
    assert not stopper.should_stop(bad, 1, [*good, bad])  # trial 0 has trained all of its tasks
    stopped = Course(3, {1: 0.1})
    late = Course(REUSED + 3, {1: 0.2})
    assert stopper.should_stop(late, 1, [*good, stopped, late])


def test_a_trial_that_fails_in_a_run_that_was_added_keeps_its_reused_ones_in_the_count() -> None:
    failed = TrialStatus(0, "a", "completed", 0.5, False, True)
    other = TrialStatus(REUSED, "b", "completed", 0.6, False, False)
    before = TrialStatus(1, "c", "failed", None, False, True)
    found = cell_progress(CELL, 2, 1, [failed, other, before], "max", False)
    assert (found.started, found.budget) == (3, 3)


def test_a_training_is_confirmed_once_and_counts_once() -> None:
    def status(number: int, value: float) -> TrialStatus:
        return TrialStatus(number, f"digest {number}", "completed", value, False, False)

    trials = [status(0, 0.5), status(REUSED, 0.9), status(1, 0.7), status(REUSED + 1, 0.8), status(2, 0.6)]
    assert best_trials(trials, "max", 3, "digest 0") == [REUSED, REUSED + 1, 2]
    table = pd.DataFrame([{"trial": one.number, "objective": one.objective} for one in trials])
    assert list(best_of_trainings(table, "max")["trial"]) == [REUSED, REUSED + 1, 2]
    assert list(best_of_trainings(table, "min")["trial"]) == [0, 1, 2]
    assert list(proposed(table)["trial"]) == [0, 1, 2]
    assert [trained_by(n) for n in (-1, 7, REUSED + 7, 3 * REUSED)] == [-1, 7, 7, 0]
