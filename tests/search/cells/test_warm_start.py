"""A search that starts from what another run has found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis.lake.run_folder import JOURNAL
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from search.cells.search_queue import SearchQueue
from search.cells.warm_start import left_out, observations
from search.lake.writer import start_tables
from search.preparation.prepared import known_sources
from search.storage.journal import read_file
from tests.search.simulation import SCHEMAS, Driver, begun, images, made, told

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF, BIC = "lwf@B0-5tasks", "bic@B0-5tasks"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("other")
    resolved = begun(made(images(), trials=5), folder)
    start_tables(folder, SCHEMAS)
    with SearchQueue(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run()
    return folder


def test_a_search_starts_from_what_another_run_found(other: Path, study: Any, tmp_path: Path) -> None:
    asked = {}
    for name, start in (("cold", ["paper"]), ("warm", ["paper", str(other)])):
        resolved = study(trials=6, start_from=start, sampler_args={"n_startup_trials": 5})
        known = {source: observations(resolved, source) for source in resolved.study.search.sources}
        folder = tmp_path / name
        for jobs in (4, None):  # a restart learns nothing twice
            with SearchQueue(resolved, folder, bases=False, known=known) as cells:
                driver = Driver(cells, folder).run(jobs)
        asked[name] = [told(folder, cell) for cell in (LWF, BIC)]
        storage = read_file(folder / JOURNAL)
        assert storage is not None
        trials = optuna.load_study(study_name=LWF, storage=storage).trials
        assert sum("source" in t.user_attrs for t in trials) == (5 if name == "warm" else 0)
        assert [len(found) for found in asked[name]] == [6, 6]  # what is known costs no budget
        assert driver.cells.finished
    assert asked["warm"] != asked["cold"]
    assert [found[0] for found in asked["warm"]] == [found[0] for found in asked["cold"]]  # paper first
    theirs = {value for _, _, value in told(other, LWF)}
    assert theirs == {t.value for t in trials if "source" in t.user_attrs}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"methods": {"lwf": {"kd_weight": {"float": [1, 2]}}}},
            "has another space: lwf@B0-5tasks/0: hp.kd_w",
        ),
        ({"methods": {"lwf": {"kd_weight": 1.0}}}, "has another space: .*hp.kd_weight"),
        (
            {"methods": {"finetune": None}},
            "no completed trial of a cell of this study .it has bic@B0-5tasks, lwf",
        ),
        ({"scenarios": ["B2-inc4"]}, "no completed trial of a cell of this study"),
        ({"objective": "last_accuracy"}, "must have the same objectives: .*Leave it out"),
        ({"protocol": {"validation": 0.2}}, "same protocol.validation: it has 0.1, this study has 0.2"),
        (
            {"protocol": {"select_on": "first-k", "first": 3}},
            "same protocol: it has validation, this study has first-k first 3",
        ),
        (
            {"protocol": {"select_on": "shared-base"}},
            "same protocol: it has validation, this study has shared-base",
        ),
    ],
)
def test_another_space_or_protocol_is_refused_in_one_line(
    changes: dict[str, Any], says: str, other: Path, study: Any
) -> None:
    resolved = study(**{"trials": 3, "start_from": [str(other)], **changes})
    with pytest.raises(BadRequest, match=says) as caught:
        observations(resolved, str(other))
    assert "\n" not in str(caught.value)


def test_another_recipe_is_refused_and_so_is_a_folder_without_a_run(
    other: Path, study: Any, tmp_path: Path
) -> None:
    from spaces.resolved.resolve import resolve
    from spaces.study.study_file import load_study

    resolved = study(trials=3)
    plain = resolved.study.to_plain() | {"recipe": {"epochs": 3}}
    with pytest.raises(BadRequest, match=r"recipe.epochs must be one of 3, not 50; or leave it out"):
        observations(resolve(load_study(plain), resolved.data), str(other))
    with pytest.raises(BadRequest, match="must be a run folder"):
        observations(resolved, str(tmp_path / "nowhere"))


def test_values_are_those_over_the_class_orders_and_seeds_of_this_study(
    other: Path, study: Any, tmp_path: Path
) -> None:
    resolved = begun(study({"lwf": None}, trials=2, protocol={"orders": 2, "seeds": 2}), tmp_path)
    start_tables(tmp_path, SCHEMAS)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run()
    rows = {
        (row["trial"], row["class_order"], row["seed"]): row["objective"]
        for row in run_rows(tmp_path).values()
    }
    assert len(set(rows.values())) > 2
    for protocol, runs in (
        ({}, [("natural", 0)]),
        ({"orders": 2}, [("natural", 0), ("seed:1", 0)]),
        ({"seeds": 2}, [("natural", 0), ("natural", 1)]),
    ):
        few = study({"lwf": None}, trials=2, start_from=[str(tmp_path)], protocol=protocol)
        found = observations(few, str(tmp_path))[LWF]
        expected = [sum(rows[number, *run] for run in runs) / len(runs) for number in (0, 1)]
        assert [seen.objectives for seen in found] == [(pytest.approx(value),) for value in expected]
    for protocol, says in (
        ({"orders": 3}, "no run of lwf@B0-5tasks with class order seed:2 and seed 0"),
        ({"seeds": 3}, "no run of lwf@B0-5tasks with class order natural and seed 2"),
    ):
        with pytest.raises(BadRequest, match=says) as caught:
            observations(study({"lwf": None}, start_from=[str(tmp_path)], protocol=protocol), str(tmp_path))
        assert "\n" not in str(caught.value)


def test_cells_for_which_a_run_has_nothing_are_named(other: Path, study: Any) -> None:
    resolved = study({"lwf": None, "icarl": None}, start_from=[str(other)])
    found = observations(resolved, str(other))
    assert left_out("x", found) == [
        "search.start_from x has no completed trial of icarl@B0-5tasks: they begin without it"
    ]
    assert left_out("x", {LWF: found[LWF]}) == []


def test_a_source_that_has_gone_is_refused_unless_every_cell_has_learnt_from_it(
    other: Path, study: Any, tmp_path: Path
) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    shutil.copytree(other, source)
    resolved = begun(study(trials=6, start_from=["paper", str(source)]), folder)
    known = known_sources(resolved, folder, begun=False)
    assert {cell: len(found) for cell, found in known[str(source)].items()} == {LWF: 5, BIC: 5}
    source.rename(tmp_path / "hidden")
    with pytest.raises(BadRequest, match=r"is gone, and lwf@B0-5tasks has not learnt from it yet: restore"):
        known_sources(resolved, folder, begun=True)
    with SearchQueue(resolved, folder, bases=False, known=known) as cells:
        Driver(cells, folder).run(1)
    assert known_sources(resolved, folder, begun=True) == {}
    grown = study(
        {"lwf": None, "bic": {"stage2_lr": 0.1}, "icarl": None}, trials=6, start_from=["paper", str(source)]
    )
    with pytest.raises(BadRequest, match="icarl@B0-5tasks has not learnt from it yet"):
        known_sources(grown, folder, begun=True)
    (tmp_path / "hidden").rename(source)
    assert known_sources(grown, folder, begun=True) == {str(source): {"icarl@B0-5tasks": []}}
