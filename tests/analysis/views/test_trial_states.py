"""States of a trial: completed, stopped, failed or unfinished."""

from __future__ import annotations

import yaml

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.selection.selection import cells
from analysis.selection.trials import trials
from tests.analysis.planted import Plan, write
from tests.analysis.planted_search import search


def _states(results: Results) -> dict[int, str]:
    (cell,) = cells(results)
    table = trials(results, cell)
    return dict(zip(table["trial"], table["status"], strict=True))


def test_runs_of_evaluate_are_no_trials_of_the_search(tmp_path):
    points = [{"objective": 0.5}, {"objective": 0.6}, {"objective": 0.9, "purpose": "reference"}]
    points.append({"objective": 0.9, "purpose": "final"})
    assert _states(open_results(search(tmp_path / "run", points, None))) == {0: "completed", 1: "completed"}


def test_a_trial_with_fewer_runs_is_unfinished_without_a_stopper_and_stopped_with_one(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    (folder / "tables/runs/lwf@B0-2tasks--1--seed-1--s0.parquet").unlink()
    assert _states(open_results(folder)) == {0: "completed", 2: "completed"}
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["search"]["stopper"] = "wilcoxon"
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    assert 1 not in _states(open_results(folder)), "its second run has left a task's rows: it is under way"
    (folder / "tables/tasks/lwf@B0-2tasks--1--seed-1--s0.parquet").unlink()
    assert _states(open_results(folder)) == {0: "completed", 1: "stopped", 2: "completed"}
