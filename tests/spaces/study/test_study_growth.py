"""The identity of a study: what may grow in its folder, and what may not change."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from tests.spaces.study.small_study import study


def continued(new: ResolvedStudy, old: ResolvedStudy) -> ResolvedStudy:
    """`new` in the folder of `old`."""
    asked = new.study.with_protocol({"spread": "auto"})  # as a study file leaves it
    return resolve(asked, new.data, yaml.safe_load(study_yaml(old)))


GROWN = [
    {"search": {"trials": 99}},
    {"methods": ["finetune", "lwf", "bic"]},
    {"scenarios": ["B0-5tasks", "B4-inc2"]},
    {"protocol": {"orders": 3, "seeds": 2}},
    {"resources": {"concurrent": 7}},
    {"final": {"orders": 2}},
    {"storage": {"root": "elsewhere"}},
    {"data": {"name": "digits", "root": "/elsewhere"}},
]


CHANGED = [
    {"search": {"seed": 1}},
    {"search": {"sampler": "random"}},
    {"search": {"start_from": []}},
    {"recipe": {"epochs": 3}},
    {"protocol": {"validation": 0.2}},
    {"data": {"name": "digits", "per_class": 10}},
]


@pytest.mark.parametrize("change", GROWN, ids=str)
def test_the_identity_leaves_out_what_may_grow(change: dict[str, Any], data: Data) -> None:
    first, second = resolve(study(), data), resolve(study(**change), data)
    assert first.identity == second.identity
    assert continued(second, first).identity == first.identity


@pytest.mark.parametrize("change", CHANGED, ids=str)
def test_the_identity_holds_what_may_not_change_and_merging_names_it(
    change: dict[str, Any], data: Data
) -> None:
    first, second = resolve(study(), data), resolve(study(**change), data)
    assert first.identity != second.identity
    part, values = next(iter(change.items()))
    key = next(k for k in values if k != "name")
    pattern = rf"{part}\.{key} was .* when this folder was begun and is .* now: .* another --out"
    with pytest.raises(BadRequest, match=pattern) as caught:
        continued(second, first)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"orders": 2}, {"seeds": 2}])
def test_runs_that_a_stopper_compared_get_no_others_beside_them(change: dict[str, int], data: Data) -> None:
    old = resolve(study(search={"stopper": "asha"}), data)
    new = resolve(study(search={"stopper": "asha"}, protocol=change), data)
    with pytest.raises(BadRequest, match=r"protocol\.(orders|seeds) may not grow from 1 to 2 .* --out"):
        continued(new, old)
    assert continued(old, old).identity == old.identity


def test_a_folder_grows_by_the_union_and_never_shrinks(data: Data) -> None:
    old = resolve(study(methods=["lwf", "bic"], search={"trials": 9}, protocol={"orders": 3}), data)
    new = resolve(study(methods=["finetune", "lwf"], scenarios=["B4-inc2"], search={"trials": 4}), data)
    merged = continued(new, old)
    assert list(merged.study.methods) == ["lwf", "bic", "finetune"]
    assert [spec.name for spec in merged.study.specs()] == ["B0-5tasks", "B4-inc2"]
    assert (merged.study.search.trials, merged.study.protocol.orders) == (9, 3)
    assert len(merged.cells) == 6


def test_a_label_and_a_scenario_that_stand_may_not_change(data: Data) -> None:
    old = yaml.safe_load(study_yaml(resolve(study(methods={"a": {"method": "lwf", "kd_weight": 1}}), data)))
    with pytest.raises(BadRequest, match=r"methods\.a\.kd_weight was 1 .* and is 2 now"):
        resolve(study(methods={"a": {"method": "lwf", "kd_weight": 2}}), data, old)
    other = study(
        methods={"a": {"method": "lwf", "kd_weight": 1}},
        scenarios=[{"name": "B0-5tasks", "base": 0, "tasks": 5, "class_order": "seed:1"}],
    )
    with pytest.raises(BadRequest, match=r"scenarios\.B0-5tasks\.class_order was 'natural' .* 'seed:1' now"):
        resolve(other, data, old)


def test_other_images_under_the_same_name_are_refused(data: Data) -> None:
    old = yaml.safe_load(study_yaml(resolve(study(), data)))
    other = dataclasses.replace(data, fingerprint="0" * 64)
    with pytest.raises(BadRequest, match="the images must be those"):
        resolve(study(), other, old)
