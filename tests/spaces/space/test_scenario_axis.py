"""Grids of scenarios, and class orders as a space."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.scenarios.class_orders import class_order
from cl_core.training.checkpoint_keys import base_identity
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy, short_order
from spaces.resolved.warnings import warnings_of
from spaces.space.scenario_axis import keys_of, number_of_splits, order_of, scenarios_of
from spaces.study.study_file import load_study, parse_study
from tests.search.simulation import images


def resolved(*scenarios: Any, **parts: Any) -> ResolvedStudy:
    plain = {"study": "s", "data": "digits", "scenarios": list(scenarios), "methods": ["lwf"], **parts}
    return resolve(parse_study(plain), images())


def names(*entries: Any, classes: int | None = None) -> list[str]:
    return [spec.name for spec in scenarios_of(entries, classes)]


def test_a_grid_stands_for_every_combination_in_order() -> None:
    grid = {"base": [0, 4], "increment": [1, 2], "class_order": ["natural", "seed:1"]}
    assert names("B0-1tasks", {"grid": grid}) == [
        "B0-1tasks",
        *("B0-inc1", "B0-inc1-seed1", "B0-inc2", "B0-inc2-seed1"),
        *("B4-inc1", "B4-inc1-seed1", "B4-inc2", "B4-inc2-seed1"),
    ]
    assert names({"grid": {"tasks": 5}}) == ["B0-5tasks"]
    assert names({"grid": {"base": 4, "increments": [3, 2, 1]}}) == ["B4-3-2-1"]
    assert names({"grid": {"base": 4, "increments": [[3, 3], [4, 2]]}}) == ["B4-inc3", "B4-4-2"]


def test_combinations_that_give_one_split_are_one() -> None:
    # A base of two and twos after it are twos throughout; of ten classes, 4+4+2 comes about in two ways.
    grid = {"grid": {"base": [0, 2, 4], "increment": [2, 4]}}
    assert names(grid) == ["B0-inc2", "B0-inc4", "B2-inc2", "B2-inc4", "B4-inc2", "B4-inc4"]
    assert names(grid, classes=10) == ["B0-inc2", "B0-inc4", "B2-inc4", "B4-inc2"]
    assert names("B0-inc2", {"grid": {"increment": [2, 2, 5]}}) == ["B0-inc2", "B0-inc5"]
    assert [cell.scenario.name for cell in resolved(grid).cells] == names(grid, classes=10)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"bsae": [0], "increment": 2}, "unknown key of a grid of scenarios 'bsae': did you mean 'base'"),
        (
            {"increment": 2, "tasks": 5},
            "and increments, and got increment and",
        ),
        ({"base": [0, 4]}, "exactly one of increment, tasks and increments, and got none"),
        ({"base": [], "increment": 2}, "base of a grid of scenarios must not be empty"),
        ({"increment": ["two"]}, "scenario increment must be a whole number"),
        ([0, 4], "a grid of scenarios must be a mapping"),
        ({"base": list(range(100)), "increment": list(range(1, 100))}, "must have at most 1000"),
        ({"base": [0, 12], "increment": 2}, "'B12-inc2' has a base of 12 classes, but the data has 10"),
        ({"increment": 2, "class_order": ["natural", "natrual"]}, "did you mean 'natural'"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(grid: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message.replace("(", r"\(")) as error:
        resolved({"grid": grid})
    assert "\n" not in str(error.value)


def test_a_grid_has_no_other_key_and_takes_no_name_that_stands() -> None:
    with pytest.raises(BadRequest, match="no other key, not 'name'"):
        names({"grid": {"increment": 2}, "name": "x"})
    with pytest.raises(BadRequest, match="names 'B0-inc2' twice, once in a grid"):
        names({"name": "B0-inc2", "tasks": 5}, {"grid": {"increment": 2}})


def test_a_grid_may_be_set_on_the_command_line_and_grow() -> None:
    plain = {"study": "s", "data": "digits", "scenarios": ["B0-5tasks"], "methods": ["lwf"]}
    sets = ["{grid: {base: 4, increment: [1, 2]}}", "{grid: {base: [4, 6], increment: [1, 2]}}"]
    first, second = (resolve(load_study(plain, [f"scenarios=[{text}]"]), images()) for text in sets)
    stored = first.study.to_plain()
    assert [entry["name"] for entry in stored["scenarios"]] == ["B4-inc1", "B4-inc2"]
    assert [spec.name for spec in resolve(second.study, second.data, stored).study.specs()] == [
        *("B4-inc1", "B4-inc2", "B6-inc1", "B6-inc2")
    ]


@given(st.permutations(range(7)), st.sampled_from([(7,), (3, 2, 2), (1,) * 7, (4, 3)]))
def test_keys_give_an_order_and_equal_splits_are_one(order: list[int], sizes: tuple[int, ...]) -> None:
    written = "list:" + "-".join(map(str, order))
    found = order_of(keys_of(written, 7), sizes)
    ends = list(itertools.accumulate(sizes))
    for size, end in zip(sizes, ends, strict=True):
        task = class_order(found, 7)[end - size : end]
        assert list(task) == sorted(order[end - size : end])
    assert order_of(keys_of(found, 7), sizes) == found


def test_equal_keys_go_by_class() -> None:
    assert order_of({"order.0": 0.5, "order.1": 0.5, "order.2": 0.1, "hp.x": 1.0}, (1, 1, 1)) == "list:2-0-1"


def test_splits_are_counted_without_the_order_within_a_task() -> None:
    assert number_of_splits((2, 2)) == 6
    assert number_of_splits((2, 2, 2, 2, 2)) == 113400


def test_a_search_for_an_order_fixes_all_else_and_has_directions_of_its_own() -> None:
    scenarios = ["B0-5tasks", *({"name": "B0-5tasks", "class_order": o} for o in ("hardest", "easiest"))]
    methods = {"lwf": {"kd_weight": {"float": [1, 2]}}}
    study = resolved(*scenarios, methods=methods, protocol={"orders": 3, "seeds": 2})
    _, hard, easy = study.cells
    assert [cell.name for cell in study.cells] == [
        *("lwf@B0-5tasks", "lwf@B0-5tasks-hardest", "lwf@B0-5tasks-easiest")
    ]
    assert [p.name for p in hard.space.searched] == [f"order.{c}" for c in range(10)]
    assert hard.space.defaults()["hp.kd_weight"] == 1.0  # 0.25, moved into what the study allows
    assert warnings_of(study) == [
        "lwf: the published hp.kd_weight = 0.25 is outside the space: the first trial takes 1.0"
    ]
    assert [study.directions(cell) for cell in study.cells] == [
        {"average_incremental_accuracy": way} for way in ("max", "min", "max")
    ]
    assert [len(study.runs(cell)) for cell in study.cells] == [6, 2, 2]
    keys = {**hard.space.defaults(), "order.9": 0.0, "order.0": 0.95}
    runs = study.run_specs(hard, 3, keys)
    assert [run.run for run in runs] == ["lwf@B0-5tasks-hardest/3", "lwf@B0-5tasks-hardest/3/hardest/s1"]
    assert {run.configuration.class_order for run in runs} == {"list:1-9-2-3-4-5-6-7-0-8"}
    assert runs[0].trial_digest == study.run_specs(hard, 4, {**keys, "order.1": 0.01})[0].trial_digest
    assert runs[0].trial_digest != study.run_specs(hard, 5, easy.space.defaults())[0].trial_digest


def test_orders_with_the_same_first_task_share_it() -> None:
    study = resolved("B0-5tasks", {"tasks": 5, "class_order": "hardest"})
    plain, cell = study.cells
    natural = base_identity(study.configuration(plain, plain.space.defaults(), "natural", 0), study.data)
    keys = cell.space.defaults()

    def swapped(a: str, b: str) -> dict[str, Any]:
        return {**keys, a: keys[b], b: keys[a]}

    for config, same in (
        (keys, True),
        (swapped("order.0", "order.1"), True),  # within the first task
        (swapped("order.2", "order.8"), True),  # behind it
        (swapped("order.0", "order.2"), False),
    ):
        found = study.configuration(cell, config, "hardest", 0)
        assert (base_identity(found, study.data) == natural) is same


def test_the_hardest_order_of_what_is_minimised_has_the_most_of_it() -> None:
    study = resolved({"tasks": 5, "class_order": "hardest"}, search={"objective": "forgetting"})
    assert study.directions(study.cells[0]) == {"forgetting": "max"}


HARD = {"base": 0, "tasks": 5, "class_order": "hardest"}


@pytest.mark.parametrize(
    ("scenario", "search", "message"),
    [
        (
            HARD,
            {"sampler": "grid"},
            "B0-5tasks-hardest searches for the hardest class order, for which there",
        ),
        (HARD, {"objective": ["forgetting", "last_accuracy"]}, "but search.objective names 2: keep one"),
        ({**HARD, "tasks": 1}, {}, "but has one task, which is equal for every order"),
    ],
)
def test_what_cannot_be_searched_for_an_order_is_refused(scenario: Any, search: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        resolved(scenario, search=search)


def test_few_splits_are_warned_of() -> None:
    data = Data.from_arrays(np.zeros((24, 8, 8), dtype=np.uint8), np.repeat(np.arange(3), 8), name="three")
    plain = {"study": "s", "data": "digits", "scenarios": [{"tasks": 3, "class_order": "easiest"}]}
    study = resolve(parse_study({**plain, "methods": ["finetune"]}), data)
    assert warnings_of(study) == [
        "finetune@B0-3tasks-easiest: search.trials 20 is more than the 6 splits that differ: "
        "some are run again"
    ]


def test_orders_that_differ_have_names_that_differ_in_files_too() -> None:
    orders = ["natural", "seed:1", "seed-1.txt", "lists/order.txt", "list:1-0"]
    names = [short_order(order).replace(":", "-") for order in orders]
    assert names[:3] == ["natural", "seed-1", "file-seed-1"]
    assert len(set(names)) == len(orders)
