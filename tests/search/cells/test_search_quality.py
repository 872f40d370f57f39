"""The search's quality, without training: the recorded grid replayed through the real searcher and stopper.

The long versions are marked slow; `python -m tests.benchmarks search_quality` prints their figures.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from cl_core.errors import BadRequest
from spaces.study.study_file import load_study
from tests.benchmarks import search_quality as quality
from tests.search.replay.backend import search
from tests.search.replay.record import AXES, HERE, recorded_rows
from tests.search.replay.recording import Recording, recorded

TABLES = ("recorded-icarl", "recorded-lwf")
LEVELS = {"kd_weight": [0.05, 0.5, 5.0], "temperature": [1.0, 4.0], "lr": [0.01]}

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")


@pytest.fixture(scope="module")
def table() -> Recording:
    return recorded()


@pytest.fixture(scope="module")
def small() -> Recording:
    """Six configurations of a grid, three tasks; kd_weight 0.5 is best."""
    points = np.array(list(itertools.product(*LEVELS.values())))
    worth = np.where(points[:, 0] == 0.5, 0.5, 0.3)
    accuracy = worth[:, None] * np.array([1.0, 0.8, 0.6])
    values = dict(zip(LEVELS, points.T, strict=True))
    return Recording({"lwf": {}}, values, accuracy, np.ones_like(accuracy))


# The table


@pytest.mark.parametrize("name", TABLES)
def test_a_recorded_table_is_the_whole_grid_of_the_study_beside_it(name: str) -> None:
    path = HERE / f"{name}.csv"
    text = path.read_text(encoding="utf-8")
    plain = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    assert load_study(plain).study == name
    ((_, entry),) = plain["methods"].items()
    domains = {**entry, "lr": plain["recipe"]["increment"]["lr"]}
    grid = set(itertools.product(*(domains[axis]["choice"] for axis in AXES)))
    rows = pd.read_csv(path, comment="#")
    assert len(grid) == len(rows) == plain["search"]["trials"] >= 300
    assert set(rows[list(AXES)].itertuples(index=False, name=None)) == grid
    accuracy = rows[[f"accuracy_{t}" for t in range(10)]].to_numpy()
    increments = rows[[f"increments_{t}" for t in range(1, 10)]].to_numpy()
    assert np.isfinite(accuracy).all()
    assert len(set(accuracy[:, 0])) == 1  # the first task is shared
    assert recorded(name).increments[:, 1:] == pytest.approx(increments, abs=2e-6)
    assert len(text) < 150_000
    assert "/tmp" not in text + (HERE / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.count("\n# ") == 4
    assert "torch " in text.split("kd_weight")[0]


def results(status: str = "completed", objective: float = 0.7, asked: int = 1) -> SimpleNamespace:
    """A run of one configuration with two tasks: 9 of 10 right, then 10 of 20."""
    trial = {"run": "a/0", "status": status, "objective": objective}
    axes = {"hp.kd_weight": 0.5, "hp.temperature": 2.0, "recipe.increment.lr": 0.01}
    counts = [(0, "val", True, 10, 9), (1, "val", True, 10, 8), (1, "val", True, 10, 2)]
    counts += [(1, "test", True, 10, 10), (1, "val", False, 10, 10)]
    columns = ["after_task", "split", "primary", "n", "correct"]
    return SimpleNamespace(
        folder=Path("run"),
        study=SimpleNamespace(plain={"search": {"trials": asked}}),
        runs=pd.DataFrame([trial | axes]),
        classes=pd.DataFrame(counts, columns=columns).assign(run="a/0"),
        tasks=pd.DataFrame({"run": "a/0", "task": [0, 1], "seconds": [2.0, 1.5]}),
    )


def test_a_row_of_the_table_is_what_a_run_came_to_on_its_validation_rows() -> None:
    (row,) = recorded_rows(results()).to_dict("records")  # type: ignore[arg-type]
    assert row == {
        "kd_weight": 0.5,
        "temperature": 2.0,
        "lr": 0.01,
        "accuracy_0": 0.9,
        "accuracy_1": 0.5,
        "increments_1": 0.5,
        "seconds_0": 2.0,
        "seconds_1": 1.5,
    }


def test_no_table_is_made_of_a_run_that_has_not_ended_or_says_something_else() -> None:
    for run in (results("stopped"), results(asked=2)):
        with pytest.raises(BadRequest, match="not carried out to the end"):
            recorded_rows(run)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="do not give its objective"):
        recorded_rows(results(objective=0.71))  # type: ignore[arg-type]


# The backend


@pytest.mark.parametrize(
    ("kd_weight", "temperature", "row"),
    [(0.05, 1.0, 0), (0.15, 1.0, 0), (0.17, 1.0, 2), (1.5, 2.4, 2), (1.6, 2.6, 5), (5.0, 4.0, 5)],
)
def test_the_nearest_point_is_found_by_the_logarithm_of_weights_and_by_plain_temperature(
    kd_weight: float, temperature: float, row: int, small: Recording
) -> None:
    assert small.nearest({"kd_weight": kd_weight, "temperature": temperature, "lr": 0.02}) == row


def test_what_a_recording_says_of_increments_and_neighbours(small: Recording) -> None:
    assert small.objective == pytest.approx(np.where(small.values["kd_weight"] == 0.5, 0.4, 0.24))
    assert small.increments[2, 1:] == pytest.approx([0.4, 0.35])
    assert small.near(0).tolist() == [True, True, True, True, False, False]
    assert small.first(2).objective[2] == pytest.approx(0.45)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_a_search_is_told_what_was_recorded(concurrent: int, table: Recording) -> None:
    found = search(table, 0, 12, concurrent, sampler="random")
    assert [t.number for t in found.trials] == list(range(12))
    assert {t.state for t in found.trials} == {"COMPLETE"}
    assert {t.tasks for t in found.trials} == {10}
    for trial in found.trials:
        assert trial.row == table.nearest(trial.params)
        assert trial.value == pytest.approx(table.objective[trial.row])
    assert found.best == found.study.best_value == max(t.value or 0 for t in found.trials)
    assert found.saved == 0


@pytest.mark.parametrize("concurrent", [1, 4])
def test_a_stopped_run_ends_at_a_rung_with_its_intermediates_and_no_later_ones(
    concurrent: int, table: Recording
) -> None:
    found = search(table, 0, 24, concurrent, stopper="asha")
    assert {t.state for t in found.trials} == {"COMPLETE", "PRUNED"}
    for told, trial in zip(found.study.trials, found.trials, strict=True):
        assert trial.tasks == 10 if trial.state == "COMPLETE" else trial.tasks in (2, 4)
        known = table.increments[trial.row, 1 : trial.tasks]
        assert list(told.intermediate_values.values()) == pytest.approx(list(known))
    trained = sum(t.tasks for t in found.trials)
    assert found.saved == pytest.approx(1 - trained / 240)


def test_several_runs_at_a_time_end_in_recorded_time(small: Recording) -> None:
    """Slow bad runs do not hold up quick good ones: these reach the first rung before them."""
    quick = small.values["kd_weight"] == 0.5
    seconds = np.where(quick, 1.0, 100.0)[:, None] * np.ones((1, 3))
    timed = Recording(small.entry, small.values, small.accuracy, seconds)
    alone, beside = (search(timed, 1, 12, n, sampler="random", stopper="asha") for n in (1, 4))
    assert [t.row for t in alone.trials] == [t.row for t in beside.trials]
    assert [t.state for t in alone.trials] != [t.state for t in beside.trials]
    assert {t.state for t in beside.trials if not quick[t.row]} == {"PRUNED"}


def test_searches_that_are_compared_begin_with_the_same_trials(table: Recording) -> None:
    for seed in (0, 1):
        ways = [
            search(table, seed, 11, sampler="random"),
            search(table, seed, 11, sampler="tpe"),
            search(table, seed, 11, sampler="tpe", stopper="asha"),
        ]
        starts = [[t.params for t in found.trials] for found in ways]
        assert starts[0][:10] == starts[1][:10] == starts[2][:10]
        assert starts[0][10] != starts[1][10]
    assert search(table, 0, 1).trials[0].params != search(table, 1, 1).trials[0].params


# Quality. n searches, paired by seed; the figures of 20 are measured by `tests.benchmarks`.

ALL = pytest.param(20, marks=pytest.mark.slow)


@pytest.mark.parametrize("seeds", [8, ALL])
def test_tpe_finds_better_trials_than_random_search(seeds: int, table: Recording) -> None:
    for trials in (40,) if seeds < 20 else (40, 60):
        found = quality.against_random(table, seeds, trials, "tpe")
        assert found["p"] < 0.05
        assert found["better"] > 2 * found["worse"]


def test_the_test_of_tpe_says_nothing_where_both_find_the_same() -> None:
    assert quality.one_sided(np.zeros(20)) > 0.05
    assert quality.one_sided(np.array([0.01] * 15 + [-0.001] * 5)) < 0.05 < quality.one_sided(-np.ones(20))


@pytest.mark.parametrize("seeds", [8, ALL])
def test_halving_saves_half_of_the_tasks_and_keeps_the_winner(seeds: int, table: Recording) -> None:
    """Random search asks the same with and without a stopper: what differs is the stopper's doing."""
    for concurrent in (1,) if seeds < 20 else (1, 4):
        found = quality.stopped(table, seeds, 60, "random", "asha", concurrent)
        assert found["saved"] >= 0.5
        assert found["within"] >= 0.9 * seeds


@pytest.mark.slow
def test_halving_keeps_the_winner_on_the_other_grid_and_with_fewer_tasks(table: Recording) -> None:
    for other, saved in ((recorded("recorded-lwf"), 0.5), (table.first(5), 0.4)):
        found = quality.stopped(other, 20, 60, "random", "asha")
        assert found["saved"] >= saved
        assert found["within"] >= 18


@pytest.mark.parametrize("seeds", [4, ALL])
@pytest.mark.parametrize("increments", [1, 3])
def test_a_planted_bad_trial_that_begins_best_is_not_preferred(
    seeds: int, increments: int, table: Recording
) -> None:
    """After one increment it falls, and is stopped at the next rung; after three it has passed them all."""
    for stopper in ("asha",) if seeds < 20 else ("asha", "median"):
        found = quality.around_bad(table, seeds, 60, stopper, increments)
        assert found["chosen"] == 0
        assert found["told_early_value"] == 0
        # A sampler that took it for the best would ask most of what follows near it.
        assert found["share_near_planted"] < found["share_near_recorded"] + 0.1


def test_a_planted_bad_trial_is_best_at_its_rungs_and_among_the_worst_in_the_end(table: Recording) -> None:
    for increments in (1, 3):
        made = quality.planted_bad(table, 100, increments)
        for rung in (1, increments):
            assert made.increments[:, rung].argmax() == 100
        assert (made.objective < made.objective[100]).mean() < 0.02
        others = np.arange(320) != 100
        assert (made.accuracy[others] == table.accuracy[others]).all()


@pytest.mark.parametrize("seeds", [4, ALL])
def test_told_as_completed_at_their_stop_bad_trials_would_win(seeds: int, table: Recording) -> None:
    """Stopped trials are told as PRUNED: accuracy falls by the task, so what is stopped early looks best."""
    found = quality.naively(table, seeds, 60, "asha")
    assert found["naive_worse"] >= 0.9 * seeds
    assert found["best"] > found["best_naive"] + 0.01


@pytest.mark.parametrize("seeds", [4, ALL])
@pytest.mark.parametrize("axis", AXES)
def test_a_planted_optimum_is_found_and_its_hyperparameter_named(
    seeds: int, axis: str, table: Recording
) -> None:
    made = quality.planted_optimum(table, axis)
    found = quality.found_optimum(made, axis, seeds, 60)
    assert found["found"] == seeds
    if axis == "temperature":  # of four levels TPE soon asks the best alone; random search shows what decides
        found = quality.found_optimum(made, axis, seeds, 60, "random")
    assert found["named"] >= 0.75 * seeds


@pytest.mark.parametrize("seeds", [8, ALL])
def test_the_rate_of_false_stops_among_the_audited_is_that_of_all(seeds: int, table: Recording) -> None:
    for sampler in ("random",) if seeds < 20 else ("random", "tpe"):
        found = quality.audited(table, seeds, 60, sampler)
        assert found["audited"] == pytest.approx(0.3 * found["to_stop"], rel=0.2)
        assert found["low"] <= found["true_rate"] <= found["high"]
