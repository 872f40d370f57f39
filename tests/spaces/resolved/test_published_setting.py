"""Published settings: nothing is selected, and what differs from the published setting is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.yaml_text import read_yaml
from spaces import presets
from spaces.resolved.published import deviations
from spaces.resolved.resolve import resolve
from spaces.resolved.study_yaml import study_yaml
from spaces.study.study_file import load_study
from tests.spaces.study.small_study import images, study

FIGURE: dict[str, Any] = {"metric": "last_accuracy", "value": 0.5, "spread": 0.01, "source": "Table 1"}
FIXED = {"select_on": "fixed"}


def data() -> Data:
    """Images with a test split."""
    return dataclasses.replace(images(), test=images().train, fingerprint="")


def test_a_fixed_study_trains_every_default_once_on_all_rows() -> None:
    resolved = resolve(study(methods={"lwf": {"temperature": 3.0}}, protocol=FIXED), data())
    (cell,) = resolved.cells
    assert (cell.budget, cell.note, list(cell.space.searched)) == (1, "nothing is selected", [])
    run = resolved.run_specs(cell, 0, cell.space.defaults())[0]
    assert (run.configuration.hp["kd_weight"], run.configuration.hp["temperature"]) == (0.25, 3.0)
    assert (run.configuration.validation, run.configuration.unsealed, run.split) == (0.0, True, "test")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"methods": {"lwf": {"kd_weight": {"float": [0.1, 1]}}}}, "kd_weight"),
        ({"recipe": {"lr": {"float": [0.1, 1]}}}, "recipe.lr"),
        ({"scenarios": [{"name": "h", "base": 0, "tasks": 5, "class_order": "hardest"}]}, "class_order"),
    ],
)
def test_a_fixed_study_with_something_to_search_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(BadRequest, match=f"selects nothing, but {name} is to be searched: fix it"):
        resolve(study(**{"methods": ["lwf"], "protocol": FIXED, **changes}), data())


@pytest.mark.parametrize(
    ("published", "says"),
    [
        ({"data": "cifar100", "figures": [{**FIGURE, "metric": "accuracy"}]}, "unknown metric of published"),
        ({"data": "cifar100", "figures": [{**FIGURE, "label": "lvf"}]}, "did you mean 'lwf'"),
        ({"data": "cifar100", "figures": [{**FIGURE, "value": 63.4}]}, "value must be at most 1"),
        ({"data": "cifar100", "figures": [{**FIGURE, "spread": -0.1}]}, "spread must be at least 0"),
        ({"data": "cifar100", "figures": [{"metric": "last_accuracy", "value": 0.5}]}, "source is missing"),
        ({"figures": []}, "published.data is missing"),
        ({"data": "cifar100", "figure": []}, "published.figure"),
    ],
)
def test_a_figure_that_cannot_be_meant_is_refused_in_one_line(published: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        study(published=published)


def test_published_figures_are_kept_with_what_differs_from_their_setting() -> None:
    resolved = resolve(study(published={"data": "cifar100", "figures": [FIGURE]}), images())
    kept = read_yaml(study_yaml(resolved), "study.yaml")
    assert kept["published"]["figures"][0]["value"] == 0.5
    assert kept["resolved"]["differs"] == ["data.name digits (published: cifar100)"]
    assert (
        load_study({k: v for k, v in kept.items() if k != "resolved"}).published == resolved.study.published
    )


def test_every_changed_setting_of_a_preset_differs_and_no_place_of_files_does() -> None:
    assert deviations(load_study("published-icarl", ["data.root=/x", "final.orders=1"])) == []
    sets = ["data.augment.flip=false", "recipe.epochs=2", "protocol.orders=1", "scenarios=[B0-5tasks]"]
    assert deviations(load_study("published-icarl", sets)) == [
        "data.augment.flip false (published: true)",
        "scenarios B0-5tasks in order natural (published: B0-10tasks in order icarl-cifar)",
        "recipe.epochs 2 (published: 70)",
        "protocol.orders 1 (published: 10)",
    ]


def test_further_labels_and_fewer_scenarios_are_still_the_published_setting() -> None:
    assert deviations(load_study("published-icarl", ["methods.finetune={}", "methods.joint={}"])) == []
    one = "{name: B50-inc5, base: 50, increment: 5, class_order: natural}"
    assert deviations(load_study("published-praka", [f"scenarios=[{one}]"])) == []


def test_other_sizes_under_the_name_of_a_published_scenario_differ() -> None:
    one = "{name: B50-inc5, base: 40, increment: 5, class_order: natural}"
    (found,) = deviations(load_study("published-praka", [f"scenarios=[{one}]"]))
    assert found.startswith("scenarios B50-inc5 (base 40, increment 5) in order natural (published: B50")


@pytest.mark.parametrize("name", [name for name in presets.names() if name.startswith("published-")])
def test_the_figures_of_a_preset_are_those_of_its_method_alone(name: str) -> None:
    study = load_study(name, ["methods.joint={}"])
    assert study.published is not None
    assert {figure.label for figure in study.published.figures} <= set(study.methods) - {"joint"}
