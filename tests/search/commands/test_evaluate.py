"""Evaluating a run: which runs are handed out, what is left of them, and what a crash costs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import equal, open_results
from analysis.lake.ledger import openings
from analysis.lake.run_folder import LEDGER
from analysis.lake.run_rows import run_rows
from analysis.selection.selection import cells
from analysis.views.final import final
from analysis.views.selection_gap import selection_gap
from cl_core.errors import BadRequest
from search.commands.evaluate import evaluate
from search.commands.rerun import rerun
from search.commands.run import run_study
from search.commands.status import status
from search.jobs.evaluation_queue import EvaluationQueue
from search.jobs.spending import Spending
from search.preparation.evaluation import SelectedTrial, planned_runs, prepare_evaluation, select
from spaces.resolved.run_spec import RunSpec
from spaces.study.budget import BudgetPart
from tests.search.simulation import ended, write_row

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {"name": "digits", "per_class": 30},
    "scenarios": ["B0-5tasks"],
    "methods": {"finetune": None, "lwf": {"distill": True, "temperature": 2.0}},
    "recipe": {"epochs": 1},
    "search": {"trials": 2, "sampler": "random"},
    "final": {"orders": 2},
}
LWF, TUNED = "lwf@B0-5tasks", "finetune@B0-5tasks"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search: one cell has two configurations, the other nothing to search."""
    return run_study(STUDY, tmp_path_factory.mktemp("evaluate") / "run", local=True).folder


@pytest.fixture(scope="module")
def judged(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder, evaluated."""
    folder = shutil.copytree(searched, tmp_path_factory.mktemp("evaluated") / "run")
    summary = evaluate(folder, local=True)
    assert (summary.failed, summary.worked, summary.left) == (0, True, None)
    return folder


def planned(
    study: Any, final: dict[str, int], numbers: tuple[int, int] = (3, 0), **how: Any
) -> list[RunSpec]:
    """The runs for a selected trial 3 in one cell, and of the default in the other."""
    resolved = study(**how)
    part = resolved.study.final.model_copy(update=final)
    resolved = dataclasses.replace(resolved, study=resolved.study.model_copy(update={"final": part}))
    first, second = resolved.cells
    selected = [
        SelectedTrial(first, 3, {**first.space.defaults(), "hp.kd_weight": 1.0}, 0, first.space.defaults()),
        SelectedTrial(second, 0, second.space.defaults(), 0, second.space.defaults()),
    ]
    return planned_runs(resolved, selected)


def test_selected_trial_and_default_have_the_same_orders_and_seeds_that_the_search_never_used(
    study: Any,
) -> None:
    specs = planned(study, {"orders": 2, "seeds": 2}, protocol={"orders": 1, "seeds": 3})
    mine = [spec for spec in specs if spec.cell == "lwf@B0-5tasks" and spec.purpose == "final"]
    runs = {
        number: {(s.configuration.class_order, s.configuration.seed) for s in mine if s.trial == number}
        for number in (0, 3)
    }
    assert runs[0] == runs[3] == {(o, s) for o in ("natural", "seed:1") for s in (3, 4)}
    assert "lwf@B0-5tasks/3/final/seed:1/s4" in {spec.run for spec in specs}
    assert {(s.configuration.validation, s.configuration.unsealed, s.measured) for s in mine} == {
        (0.0, True, "test")
    }


def test_a_selected_trial_that_is_the_default_is_trained_once(study: Any) -> None:
    mine = [spec.run for spec in planned(study, {"orders": 2}) if spec.cell == "bic@B0-5tasks"]
    assert sorted(mine) == [
        "bic@B0-5tasks/0/final/natural/s1",
        "bic@B0-5tasks/0/final/seed:1/s1",
        "bic@B0-5tasks/0/reference/natural/s1",
        "bic@B0-5tasks/0/reference/seed:1/s1",
    ]


@pytest.mark.parametrize(("searched_orders", "final_orders"), [(3, 2), (1, 2), (2, 2)])
def test_references_cover_the_orders_of_search_and_evaluation(
    searched_orders: int, final_orders: int, study: Any
) -> None:
    specs = planned(study, {"orders": final_orders}, protocol={"orders": searched_orders})
    mine = [s for s in specs if s.cell == "lwf@B0-5tasks" and s.purpose == "reference"]
    wanted = ["natural", "seed:1", "seed:2"][: max(searched_orders, final_orders)]
    assert [s.configuration.class_order for s in mine] == wanted
    assert {(s.trial, s.configuration.validation, s.measured) for s in mine} == {(3, 0.1, "val")}


def carry_out(jobs: EvaluationQueue, folder: Path, count: int | None = None, failing: str = "") -> list[str]:
    """End so many jobs, one after another, and leave one under way."""
    done = []
    while (job := jobs.next()) is not None:
        if count is not None and len(done) == count:
            return done
        done.append(job.id)
        status = "failed" if failing and failing in job.id else "completed"
        if job.kind == "run":
            assert jobs.report(job.id, 0, None) is False
            write_row(folder, job.spec, status, 0.5)
        jobs.done(ended(job.id, status))
    assert jobs.finished
    return done


def test_what_has_its_row_is_not_handed_out_again(study: Any, tmp_path: Path) -> None:
    specs = planned(study, {"orders": 2})
    resolved = study()
    first = carry_out(EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False), tmp_path, 3)
    second = carry_out(EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False), tmp_path)
    assert first + second == [spec.run for spec in specs]
    third = EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False)
    assert (third.finished, third.next(), third.left) == (True, None, None)
    assert [(p.cell, p.budget, p.completed, p.running) for p in third.progress()] == [
        ("lwf@B0-5tasks", 6, 6, 0),
        ("bic@B0-5tasks", 4, 4, 0),
    ]


def test_failed_runs_wait_until_they_are_asked_for(study: Any, tmp_path: Path) -> None:
    specs, resolved = planned(study, {"orders": 1}), study()
    jobs = EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False)
    carry_out(jobs, tmp_path, failing="reference")
    assert [p.failed for p in jobs.progress()] == [1, 1]
    assert EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False).finished
    again = EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False, retry_failed=True)
    assert carry_out(again, tmp_path) == [spec.run for spec in specs if spec.purpose == "reference"]


def test_base_stages_come_first_and_runs_that_share_one_wait(study: Any, tmp_path: Path) -> None:
    specs, resolved = planned(study, {"orders": 1}), study()
    jobs = EvaluationQueue(specs, tmp_path, lambda spec: resolved.data)
    base = jobs.next()
    assert base is not None
    assert base.kind == "base"
    other = jobs.next()
    assert other is not None
    assert other.id != base.id
    assert other.spec.purpose == "reference"  # final runs wait: they have one first task
    jobs.done(ended(base.id, "completed"))
    run = jobs.next()
    assert run is not None
    assert (run.kind, run.spec.purpose) == ("run", "final")


def test_a_spent_budget_hands_nothing_out_and_a_run_handed_back_is_left(study: Any, tmp_path: Path) -> None:
    specs, resolved = planned(study, {"orders": 1}), study()
    now = [0.0]
    spending = Spending(BudgetPart(wall="1h"), tmp_path, clock=lambda: now[0])
    jobs = EvaluationQueue(specs, tmp_path, lambda spec: resolved.data, bases=False, spending=spending)
    job = jobs.next()
    assert job is not None
    now[0] = 3600.0
    assert jobs.halted
    assert not jobs.finished
    jobs.hand_back(job.id)
    assert jobs.finished
    assert jobs.left == "budget.wall of 1h is spent"


def test_an_evaluation_leaves_test_rows_a_ledger_and_the_search_as_it_was(
    judged: Path, searched: Path
) -> None:
    rows = run_rows(judged)
    assert sorted(t for t, r in rows.items() if r["purpose"] == "search") == sorted(run_rows(searched))
    finals = {t: r for t, r in rows.items() if r["purpose"] == "final"}
    assert {r["split"] for r in finals.values()} == {"test"}
    assert {(r["class_order"], r["seed"]) for r in finals.values()} == {("natural", 1), ("seed:1", 1)}
    results = open_results(judged)
    splits = results.read("classes").groupby("run")["split"].unique()
    assert {tuple(splits[t]) for t in finals} == {("test",)}
    assert {tuple(sorted(splits[t])) for t, r in rows.items() if r["purpose"] == "reference"} == {
        ("test", "val")
    }
    assert {tuple(splits[t]) for t, r in rows.items() if r["purpose"] == "search"} == {("val",)}
    (line,) = openings(judged)
    assert (line["what"], line["runs"], line["cells"]) == ("evaluate", len(rows) - 3, [TUNED, LWF])
    assert equal(searched, judged, runs=list(run_rows(searched)))


def test_the_values_are_those_that_were_sampled(judged: Path) -> None:
    prepared = prepare_evaluation(judged)
    (lwf,) = [one for one in prepared.selected if one.cell.name == LWF]
    row = run_rows(judged)[f"{LWF}/{lwf.number}"]
    assert lwf.values["hp.kd_weight"] == row["hp.kd_weight"]
    assert prepared.skipped == ()
    shown = {cell.name: cell for cell in cells(open_results(judged))}
    assert set(shown[LWF].best["purpose"]) == {"final"}
    assert set(shown[LWF].runs["purpose"]) == {"search"}


def test_evaluating_again_trains_and_writes_down_nothing(judged: Path) -> None:
    before = (judged / LEDGER).read_bytes()
    summary = evaluate(judged, local=True)
    assert not summary.worked
    assert (judged / LEDGER).read_bytes() == before


def test_more_class_orders_open_the_test_set_again(judged: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(judged, tmp_path / "run")
    evaluate(folder, ["final.orders=3"], local=True)
    assert len(openings(folder)) == 2
    found = {r["class_order"] for r in run_rows(folder).values() if r["purpose"] == "final"}
    assert found == {"natural", "seed:1", "seed:2"}


def test_the_report_shows_the_gap_whose_parts_sum(judged: Path) -> None:
    section = final(open_results(judged))
    assert section.table is not None
    assert list(section.table["trial"])[:1] == ["default is selected"]
    gap = selection_gap(open_results(judged)).table
    assert gap is not None
    parts = gap[["fresh seeds", "class orders", "other rows", "more data"]].sum(axis=1)
    assert list(parts) == pytest.approx(list(gap["gap"]))
    assert list(gap["selected by"] - gap["final"]) == pytest.approx(list(gap["gap"]))
    page = (judged / "report.html").read_text()
    assert "Final evaluation" in page
    assert "opened once: evaluate" in page


def test_status_counts_search_and_evaluation_apart(judged: Path) -> None:
    state = status(judged)
    assert state["runs"] == {"completed": 3, "stopped": 0, "failed": 0}
    assert state["evaluation"]["completed"] == len(run_rows(judged)) - 3
    assert (state["protocol"], len(state["openings"])) == ("validation", 1)


@pytest.mark.parametrize("purpose", ["final", "reference"])
def test_an_evaluated_run_comes_out_the_same_again(judged: Path, purpose: str) -> None:
    trial = next(t for t, r in run_rows(judged).items() if r["purpose"] == purpose and r["cell"] == LWF)
    assert rerun(judged, trial)


def test_what_cannot_be_evaluated_is_refused_in_one_line(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="needs a run folder"):
        evaluate(tmp_path / "none", local=True)
    with pytest.raises(BadRequest, match="an evaluation may change final"):
        evaluate(searched, ["recipe.epochs=3"], local=True)
    empty = shutil.copytree(searched, tmp_path / "empty")
    for path in (empty / "tables" / "runs").glob("*@*.parquet"):
        path.unlink()
    with pytest.raises(BadRequest, match="needs completed trials"):
        evaluate(empty, local=True)
    assert not (empty / LEDGER).exists()


def test_what_chf_has_trained_for_the_test_set_comes_out_the_same_again(tmp_path: Path) -> None:
    protocol = {"select_on": "chf", "chf": {"lrs": 1, "attempts": 1}}
    plain = {**STUDY, "methods": {"lwf": {}}, "protocol": protocol, "final": {"orders": 1}}
    folder = run_study(plain, tmp_path / "run", local=True).folder
    evaluate(folder, local=True)
    trial = f"{LWF}/0/final/natural/s1"
    assert run_rows(folder)[trial]["split"] == "test"
    assert rerun(folder, trial)


def test_a_data_set_without_a_test_split_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unsplit.py").write_text(
        "import numpy as np\nfrom cl_core import Data\n"
        "def load():\n    y = np.repeat(np.arange(4), 8)\n"
        "    x = np.zeros((32, 8, 8), dtype=np.uint8) + y[:, None, None].astype('uint8')\n"
        "    return Data.from_arrays(x, y)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain = {**STUDY, "data": "unsplit:load", "scenarios": ["B0-2tasks"], "methods": ["finetune"]}
    folder = run_study(plain, tmp_path / "run", local=True).folder
    with pytest.raises(BadRequest, match="has none: give it one"):
        evaluate(folder, local=True, own_code=True)


def test_a_cell_that_came_to_nothing_is_left_out_and_named(searched: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(searched, tmp_path / "run")
    for path in (folder / "tables" / "runs").glob("lwf*.parquet"):
        path.unlink()
    prepared = prepare_evaluation(folder)
    assert prepared.skipped == (LWF,)
    assert {spec.cell for spec in prepared.specs} == {TUNED}


def test_the_default_is_trained_too_where_the_search_does_not_begin_with_it(tmp_path: Path) -> None:
    plain = {**STUDY, "methods": {"lwf": {"temperature": 2.0}}, "search": {"trials": 1, "start_from": []}}
    folder = run_study(plain, tmp_path / "run", local=True).folder
    prepared = prepare_evaluation(folder)
    (selected,) = prepared.selected
    assert (selected.number, selected.default_number, selected.is_default) == (0, -1, False)
    assert selected.default["hp.kd_weight"] == 0.25
    assert f"{LWF}/-1/final/natural/s1" in {spec.run for spec in prepared.specs}
    assert select(prepared.run.study, folder)[0] == [selected]


@pytest.mark.parametrize("optuna", ["journal", "sqlite"])
def test_a_study_with_a_second_one_for_its_stopper_is_evaluated(optuna: str, tmp_path: Path) -> None:
    search = {"trials": 1, "objective": ["last_accuracy", "kept_bytes"], "stopper": "asha"}
    plain = {**STUDY, "methods": {"lwf": {"temperature": 2.0}}, "search": {**search, "sampler": "random"}}
    folder = run_study({**plain, "storage": {"optuna": optuna}}, tmp_path / "run", local=True).folder
    (selected,) = prepare_evaluation(folder).selected
    assert (selected.cell.name, selected.number, selected.is_default) == (LWF, 0, True)


def test_an_oracle_is_labelled_wherever_its_numbers_stand(tmp_path: Path) -> None:
    label = "selected on the test split (oracle-test)"
    plain = {**STUDY, "protocol": {"select_on": "oracle-test"}, "methods": ["finetune"]}
    noted: list[str] = []
    summary = run_study(plain, tmp_path / "run", local=True, warn=noted.extend)
    (row,) = run_rows(summary.folder).values()
    confusions = open_results(summary.folder).confusions(row["run"], "test")
    assert row["split"] == "test"
    assert row["last_accuracy"] == confusions[-1].trace() / confusions[-1].sum()
    assert [opening["what"] for opening in openings(summary.folder)] == ["oracle-test"]
    assert list(summary.labels) == [label]
    assert label in noted[0]
    assert status(summary.folder)["label"] == label
    page = (summary.folder / "report.html").read_text()
    assert page.count(f'<p class="note bad">{label}</p>') > page.count('<div class="table')
    assert label in (summary.folder / "study.yaml").read_text()


def test_the_first_tasks_are_compared_with_the_same_tasks(tmp_path: Path) -> None:
    plain = {**STUDY, "protocol": {"select_on": "first-k", "first": 2}, "final": {"orders": 1}}
    folder = run_study({**plain, "methods": ["finetune"]}, tmp_path / "run", local=True).folder
    evaluate(folder, local=True)
    rows = {row["purpose"]: row for row in run_rows(folder).values()}
    assert {purpose: row["tasks_done"] for purpose, row in rows.items()} == {
        "search": 2,
        "final": 5,
        "reference": 5,
    }
    gap = selection_gap(open_results(folder)).table
    assert gap is not None
    shown = ["fresh seeds", "later tasks", "other rows", "more data"]
    assert gap[shown].sum(axis=1).iloc[0] == pytest.approx(gap["gap"].iloc[0])
    assert gap["gap"].iloc[0] == pytest.approx(
        rows["search"]["average_incremental_accuracy"] - rows["final"]["average_incremental_accuracy"]
    )


def test_a_killed_evaluation_given_again_leaves_the_rows_of_an_undisturbed_one(
    searched: Path, judged: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(searched, tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", "evaluate", str(folder), "--local"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("tables/runs/*final*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert len(run_rows(folder)) < len(run_rows(judged))
    assert evaluate(folder, local=True).failed == 0
    assert equal(folder, judged), equal(folder, judged)
    assert len(openings(folder)) == 2
    assert all(json.loads(line) for line in (folder / LEDGER).read_text().splitlines())
    assert yaml.safe_load((folder / "study.yaml").read_text())["study"] == "small"


def test_the_data_of_the_evaluation_is_checked_before_the_search(tmp_path: Path) -> None:
    there = {"name": "image-folder", "root": str(tmp_path / "none")}
    for judged, says in (
        (there, "none"),
        ({"name": "digits", "classes": 4}, "finetune@B0-5tasks on the 4 classes judged on"),
    ):
        plain = {**STUDY, "protocol": {"select_on": "gtep", "evaluate_on": judged}}
        with pytest.raises(BadRequest, match=says):
            run_study(plain, tmp_path / "run", local=True)
    assert not (tmp_path / "run").exists()


def test_a_selected_trial_of_one_half_of_the_classes_is_judged_on_the_other(tmp_path: Path) -> None:
    plain = {**STUDY, "protocol": {"select_on": "gtep"}, "scenarios": ["B0-2tasks"], "methods": ["finetune"]}
    folder = run_study({**plain, "final": {"orders": 1}}, tmp_path / "run", local=True).folder
    evaluate(folder, local=True)
    results = open_results(folder)
    names = {
        row["purpose"]: set(results.read("classes", [trial])["class_name"])
        for trial, row in run_rows(folder).items()
    }
    assert names["search"] == names["reference"]
    assert not names["search"] & names["final"]
    gap = selection_gap(results)
    assert gap.table is not None
    assert not {"more data", "gap"} & set(gap.table.columns)
    assert "without one for more data" in gap.text
    trial = next(t for t, row in run_rows(folder).items() if row["purpose"] == "final")
    assert rerun(folder, trial)
