"""Cells that stop: the storage's states and intermediates, restarts, audits, several objectives, races."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.lake.run_folder import JOURNAL, file_stem, table_folder
from analysis.lake.run_rows import run_rows
from search.cells.search_queue import SearchQueue
from search.lake.writer import gather, start_tables
from search.storage.journal import read_file
from search.worker.job import Job
from tests.search.simulation import SCHEMAS, TASKS, ended, told, write_row

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

CELL = "lwf@B0-5tasks"


def curve(job: Job) -> list[float]:
    """The accuracy over the increments after every task: it falls; what begins high falls faster."""
    hp = job.spec.configuration.hp
    steep = 0.05 + 0.1 * abs(math.log(float(hp["kd_weight"])))
    return [0.9 - steep * task + 0.03 * steep for task in range(TASKS)]


def carry_out(cells: SearchQueue, folder: Path, answers: int | None = None) -> None:
    """Every job task by task; `answers` ends it, like a killed driver, after so many reports."""
    start_tables(folder, SCHEMAS)
    while (job := cells.next()) is not None:
        status, values = "completed", curve(job)
        for task in range(TASKS - 1):
            if answers is not None:
                if not answers:
                    return
                answers -= 1
            if cells.report(job.id, task, values[task] if task else None):
                status = "stopped"
                break
        value = values[TASKS - 1 if status == "completed" else task]
        write_row(folder, job.spec, status, value)
        count = len(cells.study.objectives)
        cells.done(ended(job.id, status, (value, 1 - value, 100.0)[:count], value))


def trials(folder: Path, name: str = CELL) -> list[tuple[int, str, dict[int, float], int | None]]:
    storage = read_file(folder / JOURNAL)
    assert storage is not None
    found = {}
    for t in optuna.load_study(study_name=name, storage=storage).trials:
        number = t.user_attrs.get("number")
        if number is not None:
            found[number] = (number, t.state.name, t.intermediate_values, t.user_attrs.get("audited"))
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("stopper", ["asha", "hyperband", "median"])
@pytest.mark.parametrize("audit", [0.0, 0.5])
def test_after_a_kill_at_any_report_the_same_trials_are_stopped_at_the_same_task(
    stopper: str, audit: float, study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None}, trials=14, stopper=stopper, audit=audit)
    straight = tmp_path / "straight"
    with SearchQueue(resolved, straight, bases=False) as cells:
        carry_out(cells, straight)
    expected = trials(straight)
    states = [state for _, state, _, _ in expected]
    assert "PRUNED" in states
    assert any(mark is not None for *_, mark in expected) == bool(audit)
    for killed in (1, 11):
        folder = tmp_path / f"killed{killed}"
        for answers in (killed, 5, None):
            with SearchQueue(resolved, folder, bases=False) as cells:
                carry_out(cells, folder, answers)
        assert trials(folder) == expected
        marks = {trial: row["audited_after"] for trial, row in run_rows(folder).items()}
        assert marks == {trial: row["audited_after"] for trial, row in run_rows(straight).items()}


def test_stopped_trials_are_pruned_with_all_their_intermediates(study: Any, tmp_path: Path) -> None:
    with SearchQueue(study({"lwf": None}, trials=14, stopper="asha"), tmp_path, bases=False) as cells:
        carry_out(cells, tmp_path)
    found = trials(tmp_path)
    for _, state, values, _ in found:
        assert sorted(values) == list(range(1, TASKS if state == "COMPLETE" else max(values) + 1))
    assert {max(values) for _, state, values, _ in found if state == "PRUNED"} <= {1, 3}


def test_an_audit_lets_a_share_run_on_and_marks_it_in_storage_and_tables(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=40, stopper="asha", audit=0.3, sampler="random")
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        carry_out(cells, tmp_path)
    found = trials(tmp_path)
    audited = {n: (state, step) for n, state, _, step in found if step is not None}
    stopped = [n for n, state, *_ in found if state == "PRUNED"]
    assert 3 <= len(audited) < len(stopped)
    assert {state for state, _ in audited.values()} == {"COMPLETE"}
    marked = {row["trial"]: row["audited_after"] for row in run_rows(tmp_path).values()}
    assert {n: mark for n, mark in marked.items() if mark is not None} == {
        n: step for n, (_, step) in audited.items()
    }


def test_an_audited_run_reads_its_own_row_alone(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = study({"lwf": None}, trials=40, stopper="asha", audit=0.3, sampler="random")
    start_tables(tmp_path, SCHEMAS)
    read, opened = pq.ParquetFile, []
    with SearchQueue(resolved, tmp_path, bases=False) as cells, monkeypatch.context() as patch:
        patch.setattr(pq, "ParquetFile", lambda path: (opened.append(Path(path).name), read(path))[1])
        carry_out(cells, tmp_path)
    marked = [trial for trial, row in run_rows(tmp_path).items() if row["audited_after"] is not None]
    assert len(marked) >= 3
    assert sorted(set(opened) - {"schema.parquet"}) == sorted(
        f"{file_stem(trial)}.parquet" for trial in marked
    )
    assert len(opened) == 2 * len(marked)


@pytest.mark.parametrize("merged", [False, True])
def test_a_mark_that_a_crash_swallowed_is_made_when_the_folder_is_opened_again(
    merged: bool, study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None}, trials=40, stopper="asha", audit=0.3, sampler="random")
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        start_tables(tmp_path, SCHEMAS)
        while (job := cells.next()) is not None:
            values = curve(job)
            stop = any(cells.report(job.id, task, values[task]) for task in range(1, TASKS - 1))
            status, value = ("stopped" if stop else "completed"), values[-1]
            write_row(tmp_path, job.spec, status, value)
            trial = cells.running[job.id]
            if cells.cells[trial.cell].audited_task(trial, 0) is not None:
                break  # the worker wrote its row, and the driver is killed
            cells.done(ended(job.id, status, (value,), value))
    assert job is not None
    assert run_rows(tmp_path)[job.id]["audited_after"] is None
    if merged:
        gather(tmp_path)
    with SearchQueue(resolved, tmp_path, bases=False):
        assert run_rows(tmp_path)[job.id]["audited_after"] == 1
    assert pd.read_parquet(table_folder(tmp_path, "runs"))["run"].is_unique
    assert told(tmp_path, CELL)[job.spec.trial][1] == "COMPLETE"


def test_with_several_objectives_a_second_study_decides_and_both_are_told(study: Any, tmp_path: Path) -> None:
    objective = ["average_incremental_accuracy", "forgetting"]
    one = study({"lwf": None}, trials=14, stopper="asha", sampler="random")
    two = study({"lwf": None}, trials=14, stopper="asha", sampler="random", objective=objective)
    for name, resolved in (("one", one), ("two", two)):
        for answers in (9, None):
            with SearchQueue(resolved, tmp_path / name, bases=False) as cells:
                carry_out(cells, tmp_path / name, answers)
    single, main = trials(tmp_path / "one"), trials(tmp_path / "two")
    beside = trials(tmp_path / "two", f"{CELL}/stopping")
    assert [state for _, state, *_ in main] == [state for _, state, *_ in single]
    assert beside == single
    assert all(values == {} for _, _, values, _ in main)
    storage = read_file(tmp_path / "two" / JOURNAL)
    assert storage is not None
    both = optuna.load_study(study_name=CELL, storage=storage)
    assert [d.name for d in both.directions] == ["MAXIMIZE", "MINIMIZE"]
    done = [t for t in both.trials if t.state.name == "COMPLETE"]
    assert done
    assert all(t.values == pytest.approx([v, 1 - v]) for t in done for v in t.values[:1])
    assert both.best_trials


def test_what_is_minimised_is_stopped_by_accuracy_all_the_same(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=14, stopper="asha", sampler="random", objective="forgetting")
    assert resolved.direction == "min"
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        carry_out(cells, tmp_path)
    plain = study({"lwf": None}, trials=14, stopper="asha", sampler="random")
    with SearchQueue(plain, tmp_path / "plain", bases=False) as cells:
        carry_out(cells, tmp_path / "plain")
    assert trials(tmp_path, f"{CELL}/stopping") == trials(tmp_path / "plain")


def test_a_bad_trial_that_was_stopped_early_with_a_high_value_is_not_preferred(
    study: Any, tmp_path: Path
) -> None:
    """Accuracy falls from task to task, so what is stopped early was last seen at a high value."""
    resolved = study({"lwf": None}, trials=30, stopper="asha", sampler_args={"n_startup_trials": 8})
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        carry_out(cells, tmp_path)
        (progress,) = cells.progress()
    found = trials(tmp_path)
    last = {n: values[max(values)] for n, state, values, _ in found if state == "PRUNED"}
    assert progress.best is not None
    assert max(last.values()) > progress.best
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    best = optuna.load_study(study_name=CELL, storage=storage).best_trial
    assert best.value == progress.best
    # The sampler goes where trials end well (kd_weight near 1), not where they were stopped.
    asked = [t.params["hp.kd_weight"] for t in optuna.load_study(study_name=CELL, storage=storage).trials]
    spread = [abs(math.log(value)) for value in asked]
    assert sum(spread[20:]) / 10 < 0.6 * sum(spread[1:9]) / 8


def test_a_race_over_class_orders_ends_a_trial_between_two_runs(study: Any, tmp_path: Path) -> None:
    protocol = {"orders": 7}
    resolved = study({"lwf": None}, trials=6, stopper="wilcoxon", sampler="random", protocol=protocol)
    started: dict[str, list[str]] = {}
    for name, kill in (("straight", None), ("killed", 12)):
        folder = tmp_path / name
        order = started[name] = []
        for jobs in (kill, None):
            start_tables(folder, SCHEMAS)
            with SearchQueue(resolved, folder, bases=False) as cells:
                while (job := cells.next()) is not None:
                    if jobs is not None and len(order) >= jobs:
                        break
                    order.append(job.id)
                    orders = [str(s.configuration.class_order) for s in cells.running[job.id].specs]
                    luck = 0.02 * orders.index(str(job.spec.configuration.class_order))
                    value = 0.8 + luck - 0.1 * job.spec.trial
                    for task in range(1, TASKS - 1):
                        assert not cells.report(job.id, task, value)
                    write_row(folder, job.spec, "completed", value)
                    cells.done(ended(job.id, "completed", (value,), value))
    assert started["killed"] == started["straight"]
    assert len(started["straight"]) == 7 + 5 * 5  # 2^-5 < 0.1 / 2, the looks after five and six orders
    found = trials(tmp_path / "straight")
    assert [state for _, state, *_ in found] == ["COMPLETE", *["PRUNED"] * 5]
    assert trials(tmp_path / "killed") == found


def test_an_audit_between_two_runs_is_marked_in_the_tables_at_once(study: Any, tmp_path: Path) -> None:
    protocol = {"orders": 7}
    resolved = study(
        {"lwf": None}, trials=12, stopper="wilcoxon", sampler="random", protocol=protocol, audit=0.5
    )
    start_tables(tmp_path, SCHEMAS)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        while (job := cells.next()) is not None:
            value = 0.9 - 0.05 * job.spec.trial
            for task in range(1, TASKS - 1):
                assert not cells.report(job.id, task, value)
            write_row(tmp_path, job.spec, "completed", value)
            cells.done(ended(job.id, "completed", (value,), value))
    audited = {number for number, *_, step in trials(tmp_path) if step is not None}
    rows = run_rows(tmp_path).values()
    assert audited
    assert {row["trial"] for row in rows if row["audited_after"] is not None} == audited


@pytest.mark.parametrize(("aggregate", "expected"), [("mean", (0.6, 0.3)), ("worst", (0.5, 0.4))])
def test_objectives_are_aggregated_over_runs_as_the_protocol_says(
    aggregate: str, expected: tuple[float, float], study: Any, tmp_path: Path
) -> None:
    protocol = {"orders": 2, "aggregate": aggregate}
    objective = {"last_accuracy": "max", "forgetting": "min"}
    resolved = study({"lwf": None}, trials=1, protocol=protocol, objective=objective)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        for values in ((0.5, 0.2), (0.7, 0.4)):
            job = cells.next()
            assert job is not None
            cells.done(ended(job.id, "completed", values, 0.5))
        assert cells.finished
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    (trial,) = optuna.load_study(study_name=CELL, storage=storage).trials
    assert trial.values == pytest.approx(expected)
