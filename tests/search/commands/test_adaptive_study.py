"""A study under the protocol adaptive, from its search to its report, and its cost before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import open_results
from analysis.lake.run_rows import run_rows
from analysis.report.page import write_report
from analysis.report.section import VIEWS
from cl_core.images.loading import load
from search import run_study
from search.commands.evaluate import evaluate
from search.commands.export import export
from search.commands.rerun import rerun
from search.cost.dry_run import rehearse
from search.preparation.evaluation import prepare_evaluation
from spaces.resolved.resolve import resolve
from spaces.study.study_file import load_study

LWF = "lwf@B0-5tasks"
PLAIN = {
    "study": "adaptive",
    "data": {"name": "digits", "per_class": 30},
    "scenarios": ["B0-5tasks"],
    "methods": {"lwf": {"temperature": 3.0}},
    "recipe": {"epochs": 1},
    "search": {"trials": 1},
    "protocol": {"select_on": "adaptive", "adaptive": {"attempts": 3}, "validation": 0.2},
    "final": {"orders": 2},
}
FIXED = {**PLAIN, "search": {"trials": 3}, "protocol": {"validation": 0.2}}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adaptive run folder with its evaluation."""
    folder = run_study(PLAIN, tmp_path_factory.mktemp("adaptive") / "run", local=True).folder
    evaluate(folder, local=True)
    return folder


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with fixed values and as many image-steps, with its evaluation."""
    folder = run_study(FIXED, tmp_path_factory.mktemp("fixed") / "fixed", local=True).folder
    evaluate(folder, local=True)
    return folder


def test_the_tables_hold_what_was_tried_at_each_task_and_what_was_kept(judged: Path) -> None:
    tasks = open_results(judged).read("tasks", [f"{LWF}/0"])
    assert tasks["attempts"].isna().tolist() == [True, False, False, False, False]
    for row in tasks.iloc[1:].to_dict("records"):
        attempts = json.loads(row["attempts"])
        assert [set(one["values"]) for one in attempts] == [set(), {"hp.kd_weight"}, {"hp.kd_weight"}]
        best = max(attempts, key=lambda one: one["accuracy"])
        assert row["hp.kd_weight"] == best["values"].get("hp.kd_weight", 0.25)
        assert row["images"] == sum(one["images"] for one in attempts)


def test_the_forecast_counts_every_attempt_and_equals_the_run(judged: Path) -> None:
    study = load_study(PLAIN)
    resolved = resolve(study, load(study.tuning_data))
    counts = rehearse(resolved.first_run(resolved.cells[0]), resolved.data)
    tasks = open_results(judged).read("tasks", [f"{LWF}/0"])
    assert [count.images for count in counts] == tasks["images"].tolist()


def test_a_fixed_search_with_as_many_trials_costs_the_same(judged: Path, fixed: Path) -> None:
    section = VIEWS["task_values"](open_results([judged, fixed]))
    (table,) = section.tables
    assert table.frame["protocol"].tolist() == ["adaptive", "validation"]
    assert table.frame["image-steps"].nunique() == 1
    assert table.frame["over fixed"].notna().tolist() == [True, False]


def test_the_adaptive_trial_is_judged_beside_the_default_with_fixed_values(judged: Path, fixed: Path) -> None:
    specs = {spec.run: spec.configuration for spec in prepare_evaluation(judged).specs}
    assert set(specs) == {f"{LWF}/{k}/final/{order}/s1" for k in (0, -1) for order in ("natural", "seed:1")}
    assert [specs[f"{LWF}/{k}/final/natural/s1"].validation for k in (0, -1)] == [0.2, 0.0]
    rows = run_rows(judged)
    assert all(rows[f"{LWF}/{k}/final/natural/s1"]["split"] == "test" for k in (0, -1))
    theirs = [row for name, row in run_rows(fixed).items() if row["trial"] == 0 and "final/natural" in name]
    names = ("average_incremental_accuracy", "last_accuracy", "numerics")
    ours = rows[f"{LWF}/-1/final/natural/s1"]
    assert [ours[name] for name in names] == [theirs[0][name] for name in names]


@pytest.mark.parametrize("run", [f"{LWF}/0", f"{LWF}/0/final/natural/s1", f"{LWF}/-1/final/seed:1/s1"])
def test_a_recorded_run_comes_out_the_same_again(judged: Path, run: str) -> None:
    assert rerun(judged, run)


def test_the_report_shows_the_values_of_every_task(judged: Path, fixed: Path, tmp_path: Path) -> None:
    section = VIEWS["task_values"](open_results(judged))
    assert section.table is not None
    assert len(section.table) == 2 * 4  # final runs: class orders x tasks after the first
    assert {"kd_weight", "kept", "accuracy kept", "of the defaults"} <= set(section.table.columns)
    assert (section.table["accuracy kept"] >= section.table["of the defaults"]).all()
    text = write_report([judged, fixed], tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Values task by task" in text
    assert "Protocols side by side" in text
    assert VIEWS["task_values"](open_results(fixed)).bare


def test_an_exported_study_searches_again_and_comes_to_the_same(judged: Path, tmp_path: Path) -> None:
    (done,) = export(judged, out=tmp_path / "export")
    assert "adaptive chooses again" in done.study.read_text(encoding="utf-8")
    again = run_study(done.study, tmp_path / "again", local=True).folder
    before, after = (open_results(folder).read("tasks", [f"{LWF}/0"]) for folder in (judged, again))
    assert before["network"].tolist() == after["network"].tolist()
    assert before["attempts"].tolist()[1:] == after["attempts"].tolist()[1:]
