"""Trials that take class orders in turn: each trains on one, and their values compare all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import open_results
from analysis.lake.run_rows import run_rows
from analysis.selection.front import front
from analysis.selection.selection import cells
from analysis.selection.trials import trials
from analysis.selection.turns import on_one_scale
from analysis.views.selected_trials import selected_trials
from search.cells.class_order_effect import effect
from search.cells.search_queue import SearchQueue
from search.cells.stoppers import Course, Stopper
from search.cells.warm_start import observations
from search.commands.outcome import outcome
from search.lake.writer import start_tables, study_schemas
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study import ResolvedStudy
from tests.search.simulation import Driver, Ending, begun, told, worth

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

PROTOCOL = {"spread": 3, "confirm": {"top": 2, "orders": 2}}
LWF = "lwf@B0-5tasks"


def run(resolved: ResolvedStudy, folder: Path, jobs: int | None = None, **how: Any) -> Driver:
    """Carry out the study in simulation, or some of its jobs and then drop it."""
    begun(resolved, folder)
    start_tables(folder, study_schemas(resolved.methods))
    return Driver(SearchQueue(resolved, folder, bases=False), folder, **how).run(jobs)


def on_own_order(spec: RunSpec) -> float:
    """The made-up objective of a run as it would be on the scenario's own class order."""
    return worth(replace(spec, configuration=replace(spec.configuration, class_order="natural")))


def test_the_effect_is_the_difference_of_the_default_on_two_class_orders() -> None:
    measured = {0: (0.5, 9.0), 1: (0.58, 7.0), 2: (0.4, 9.0), 5: (0.6, 9.0)}.get
    objectives = {"last_accuracy": "max", "kept_bytes": "min"}
    assert effect(3, measured, 3, objectives) == (0.0, 0.0)
    assert effect(4, measured, 3, objectives) == pytest.approx((0.08, 0.0))  # a cost has none
    assert effect(5, measured, 3, objectives) == pytest.approx((-0.1, 0.0))
    assert effect(7, measured, 4, objectives) == (0.0, 0.0)  # the default failed on its class order
    assert effect(7, {}.get, 1, objectives) == (0.0, 0.0)


def test_trials_take_class_orders_in_turn_and_the_default_has_each(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=16, protocol=PROTOCOL)
    assert resolved.table()[0]["budget"] == "10 (of 16 on 3 class orders in turn, 6 runs confirm)"
    driver = run(resolved, tmp_path)
    (cell,) = driver.cells.cells.values()
    orders = [trial.specs[0].configuration.class_order for trial in cell.trials.values()]
    assert orders == [("natural", "seed:1", "seed:2")[n % 3] for n in range(10)]
    assert all(len(trial.specs) == 1 for trial in cell.trials.values())
    default = resolved.cells[0].space.defaults()
    assert [n for n, trial in cell.trials.items() if trial.values == default][:3] == [0, 1, 2]
    assert len(driver.order) == 16


def test_the_sampler_and_the_report_see_values_without_the_effect(study: Any, tmp_path: Path) -> None:
    driver = run(study({"lwf": None}, trials=16, protocol=PROTOCOL), tmp_path)
    (cell,) = driver.cells.cells.values()
    expected = [on_own_order(trial.specs[0]) for trial in cell.trials.values()]
    assert [value for _, _, value in told(tmp_path, LWF)] == pytest.approx(expected)
    (shown,) = cells(open_results(tmp_path))
    assert list(trials(open_results(tmp_path), shown)["objective"]) == pytest.approx(expected)
    assert max(shown.ranking["objective"]) == shown.ranking["objective"].iloc[0]
    assert "trials took 3 class orders in turn" in selected_trials(open_results(tmp_path)).text
    raw = {run: row["objective"] for run, row in run_rows(tmp_path).items()}
    assert raw == {spec.run: worth(spec) for trial in cell.trials.values() for spec in trial.specs} | {
        run: value for run, value in raw.items() if "/confirm/" in run
    }


def test_fronts_and_conditions_see_every_metric_without_the_effect_and_costs_as_measured(
    study: Any, tmp_path: Path
) -> None:
    driver = run(study({"lwf": None}, trials=16, protocol=PROTOCOL), tmp_path)
    (cell,) = driver.cells.cells.values()
    (shown,) = cells(open_results(tmp_path))
    found = front(open_results(tmp_path), shown, {"last_accuracy": "max", "seconds": "min"}).trials
    expected = [on_own_order(trial.specs[0]) for trial in cell.trials.values()]
    assert list(found["last_accuracy"]) == pytest.approx(expected)


def test_before_the_confirmation_the_default_is_shown_on_the_class_order_of_the_selected_trial(
    study: Any, tmp_path: Path
) -> None:
    driver = run(study({"lwf": None}, trials=16, protocol=PROTOCOL), tmp_path, jobs=9)
    (cell,) = driver.cells.cells.values()
    shown = outcome(tmp_path)
    assert shown.columns == ["cell", "trial", "selected", "default"]
    assert cell.trials[7].specs[0].configuration.class_order == "seed:1"
    selected, default = (f"{worth(cell.trials[n].specs[0]):.3f}" for n in (7, 1))
    assert list(shown.rows[0]) == [LWF, "7", selected, default]


def test_a_search_of_which_nothing_has_ended_stays_empty() -> None:
    runs = pd.DataFrame(columns=["trial", "status", "objective", "last_accuracy"]).astype({"trial": int})
    assert on_one_scale(runs, 2, "last_accuracy").empty


def test_a_trial_that_ends_before_the_default_waits_and_a_restart_loses_nothing(
    study: Any, tmp_path: Path
) -> None:
    resolved = begun(study({"lwf": None}, trials=16, protocol=PROTOCOL), tmp_path)
    start_tables(tmp_path, study_schemas(resolved.methods))
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path, concurrent=5)
    assert driver.start()
    driver.open.sort(key=lambda job: -job.spec.trial)
    driver.end_oldest()  # trial 4, on the class order of trial 1
    driver.end_oldest()  # trial 3, on that of trial 0
    assert {n: state for n, state, _ in told(tmp_path, LWF)}[4] == "RUNNING"
    assert {n: state for n, state, _ in told(tmp_path, LWF)}[3] == "COMPLETE"
    driver.cells.close()
    again = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    assert f"{LWF}/4" not in [job for job, _ in again.order]
    (cell,) = again.cells.cells.values()
    expected = [on_own_order(trial.specs[0]) for trial in cell.trials.values()]
    assert [value for _, _, value in told(tmp_path, LWF)] == pytest.approx(expected)


def test_where_the_default_failed_values_stay_as_measured(study: Any, tmp_path: Path) -> None:
    def ending(spec: RunSpec) -> Ending:
        return ("failed", None) if spec.run == f"{LWF}/1" else ("completed", worth(spec))

    resolved = begun(study({"lwf": None}, trials=16, protocol=PROTOCOL), tmp_path)
    start_tables(tmp_path, study_schemas(resolved.methods))
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(ending=ending)
    (cell,) = driver.cells.cells.values()
    values = {n: value for n, state, value in told(tmp_path, LWF) if state == "COMPLETE"}
    assert values[4] == pytest.approx(worth(cell.trials[4].specs[0]))
    assert values[5] == pytest.approx(on_own_order(cell.trials[5].specs[0]))


def test_cells_are_shown_by_the_runs_that_confirm_them_and_so_on_the_same_class_orders(
    study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None, "finetune": None}, trials=16, protocol=PROTOCOL)
    assert [cell.confirmation_runs for cell in resolved.cells] == [6, 2]
    run(resolved, tmp_path)
    for cell in cells(open_results(tmp_path)):
        assert set(cell.best["purpose"]) == {"confirm"}
        assert list(cell.best["class_order"]) == ["seed:2001", "seed:2002"]
        assert list(cell.default["class_order"]) == ["seed:2001", "seed:2002"]


def test_only_trials_on_the_same_class_order_are_rivals_and_the_default_is_never_stopped() -> None:
    stopper = Stopper("median", {"n_startup_trials": 1}, 5, ["natural"], turns=2)
    ahead = [Course(number, dict.fromkeys(range(1, 5), 0.9), completed=True) for number in (2, 4)]
    assert stopper.should_stop(Course(6, {1: 0.1}), 1, ahead)
    assert not stopper.should_stop(Course(7, {1: 0.1}), 1, ahead)
    assert not stopper.should_stop(Course(0, {1: 0.1}), 1, ahead)


def test_another_study_learns_values_without_the_effect_and_needs_the_same_turns(
    study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None}, trials=16, protocol=PROTOCOL)
    driver = run(resolved, tmp_path)
    (cell,) = driver.cells.cells.values()
    seen = observations(resolved, str(tmp_path))[LWF]
    assert {one.run: one.objectives[0] for one in seen} == pytest.approx(
        {trial.specs[0].run: on_own_order(trial.specs[0]) for trial in cell.trials.values()}
    )
    other = study({"lwf": None}, trials=16, protocol={**PROTOCOL, "spread": 2})
    with pytest.raises(Exception, match=r"must have the same protocol\.spread: it has 3, this study has 2"):
        observations(other, str(tmp_path))
