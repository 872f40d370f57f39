"""Every sampler on simulated cells: its arguments, its spaces, the same asks after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis.lake.run_folder import JOURNAL
from cl_core.errors import BadRequest
from search.backends.allocation import random_search_notes
from search.cells import samplers
from search.cells.search_queue import SearchQueue
from search.storage.journal import read_file
from spaces.resolved.warnings import warnings_of
from tests.search.simulation import Driver, told

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

EARLY: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 3},
    "gp": {"n_startup_trials": 3},
    "nsga2": {"population_size": 3},
}


def runs(resolved: Any, folder: Path, jobs: int | None = None) -> Driver:
    return Driver(SearchQueue(resolved, folder, bases=False), folder).run(jobs)


@pytest.mark.parametrize("sampler", EARLY)
@pytest.mark.parametrize("objective", [["average_incremental_accuracy"], ["last_accuracy", "forgetting"]])
def test_a_sampler_that_was_killed_asks_what_an_undisturbed_one_asks(
    sampler: str, objective: list[str], study: Any, tmp_path: Path
) -> None:
    resolved = study(
        {"lwf": None}, sampler=sampler, sampler_args=EARLY[sampler], trials=8, objective=objective
    )
    straight = runs(resolved, tmp_path / "straight").order
    first = runs(resolved, tmp_path / "killed", 5).order
    assert first[:-1] + runs(resolved, tmp_path / "killed").order == straight
    assert len({config for _, config in straight}) > 4  # a child may be a copy of its parent
    cell = resolved.cells[0].name
    assert told(tmp_path / "killed", cell) == told(tmp_path / "straight", cell)


@pytest.mark.parametrize("sampler", EARLY)
def test_arguments_reach_the_sampler_and_the_run_folder(sampler: str, study: Any, tmp_path: Path) -> None:
    asked: dict[int, set[str]] = {}
    for early in (EARLY[sampler], {}):
        resolved = study({"lwf": None}, sampler=sampler, sampler_args=early, trials=7)
        plain = resolved.study.to_plain()["search"]["sampler_args"]
        assert plain.items() >= early.items()
        assert len(plain) > len(early)
        folder = tmp_path / str(len(early))
        asked[len(early)] = {config for _, config in runs(resolved, folder).order}
    assert asked[0] != asked[1]  # one learns from three trials, the other draws all at random


def test_every_argument_of_a_study_is_one_that_the_sampler_takes(study: Any) -> None:
    for name in ("random", "tpe", "gp", "nsga2"):
        resolved = study({"lwf": None}, sampler=name)
        assert samplers.sampler(resolved.study.search, resolved.cells[0], 0)


def test_a_learning_sampler_finds_what_a_random_one_misses(study: Any, tmp_path: Path) -> None:
    best = {}
    for name in ("random", "gp"):
        early = EARLY.get(name, {})
        resolved = study({"lwf": None}, sampler=name, sampler_args=early, trials=16, start_from=[])
        driver = runs(resolved, tmp_path / name)
        best[name] = driver.cells.progress()[0].best
    assert best["gp"] > best["random"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "grid"])
def test_a_conditional_space_is_searched_branch_by_branch(sampler: str, study: Any, tmp_path: Path) -> None:
    methods = {"icarl": {"loss": {"choice": ["bce", "ce"]}}}
    if sampler == "grid":
        methods["icarl"] |= {
            "kd_weight": {"choice": [0.1, 1]},
            "old_weight": {"choice": [1, 2]},
            "temperature": {"choice": [1, 2]},
        }
    resolved = study(methods, sampler=sampler, sampler_args=EARLY.get(sampler, {}), trials=10)
    if sampler == "nsga2":
        assert "nsga2 draws it at random" in " ".join(warnings_of(resolved))
    runs(resolved, tmp_path)
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    trials = optuna.load_study(study_name="icarl@B0-5tasks", storage=storage).trials
    assert {trial.params["hp.loss"] for trial in trials} == {"bce", "ce"}
    lacking = set(resolved.cells[0].space.conditional)
    assert lacking
    for trial in trials:
        assert lacking - set(trial.params), "a branch that is not taken is never asked for"


def test_a_gaussian_process_refuses_branches_before_any_work(study: Any) -> None:
    with pytest.raises(BadRequest, match="gp needs a space without branches"):
        study({"icarl": {"loss": {"choice": ["bce", "ce"]}}}, sampler="gp")
    assert study({"icarl": {"loss": "ce"}}, sampler="gp").cells


def test_published_values_outside_a_narrowed_space_are_moved_and_that_is_said(
    study: Any, tmp_path: Path
) -> None:
    methods = {"lwf": {"kd_weight": {"float": [1, 4]}, "temperature": {"choice": [3, 5]}}}
    resolved = study(methods, trials=1)
    assert [w.split(": ", 1)[1] for w in warnings_of(resolved)] == [
        "the published hp.kd_weight = 0.25 is outside the space: the first trial takes 1.0",
        "the published hp.temperature = 2.0 is outside the space: the first trial takes 3.0",
    ]
    job = SearchQueue(resolved, tmp_path, bases=False).next()
    assert job is not None
    assert (job.spec.configuration.hp["kd_weight"], job.spec.configuration.hp["temperature"]) == (1.0, 3.0)
    assert warnings_of(study(methods, start_from=[])) == []


@pytest.mark.parametrize(
    ("search", "concurrent", "says"),
    [
        (
            {"trials": 10},
            1,
            "tpe begins with 10 random trials a cell (sampler_args.n_startup_trials)",
        ),
        ({"trials": 11}, 1, None),
        ({"trials": 11}, 2, None),  # ten in each of two cells
        ({"trials": 11}, 21, "11 trials of a cell run at once, and 1 of its 11 come after"),
        ({"trials": 3, "sampler_args": {"n_startup_trials": 1}}, 4, None),
        ({"trials": 9, "sampler": "gp", "methods": {"lwf": None}}, 1, "gp begins with 10 random"),
        ({"trials": 9, "sampler": "nsga2"}, 1, "(sampler_args.population_size), and a cell has 9"),
        ({"trials": 9, "start_from": ["runs/other"]}, 2, None),  # what is known is learnt from
        ({"trials": 2, "sampler": "random"}, 50, None),
        (
            {
                "trials": 2,
                "sampler": "grid",
                "methods": {"lwf": {"kd_weight": {"choice": [1, 2]}, "temperature": 2}},
            },
            9,
            None,
        ),
        ({"trials": 5, "methods": {"finetune": None}}, 9, None),  # nothing to search
    ],
)
def test_a_sampler_that_would_be_random_search_is_said(
    search: dict[str, Any], concurrent: int, says: str | None, study: Any
) -> None:
    lines = random_search_notes(study(**search), concurrent)
    assert len(lines) == (says is not None)
    if says is not None:
        assert says in lines[0]
        assert lines[0].endswith("this is random search")
