"""The part of a space that is searched again at every task."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cl_core.hparams import hparams
from cl_core.method import METHODS
from spaces.space.method_space import space_of
from spaces.space.space import Space
from spaces.space.task_space import from_plain, task_space, to_plain


def searched(space: Space) -> list[str]:
    return [p.name for p in space.searched]


def adapted(method: str, given: dict[str, Any] | None = None, recipe: dict[str, Any] | None = None) -> Space:
    return task_space(method, space_of(method, given or {}, recipe or {}))


RATE = {"float": [0.01, 0.3], "log": True}


def test_what_acts_on_the_training_of_later_tasks_is_adapted() -> None:
    space = adapted("lwf", recipe={"lr": RATE, "increment": {"epochs": {"int": [2, 4]}}})
    assert searched(space) == ["hp.kd_weight", "hp.temperature", "recipe.lr", "recipe.epochs"]


def test_memory_first_task_network_and_fixed_values_are_not() -> None:
    given = {"exemplars_per_class": {"int": [5, 20]}, "loss": {"choice": ["bce", "ce"]}, "temperature": 2.0}
    recipe = {"base": {"lr": RATE}, "net": {"choice": ["convnet", "resnet32"]}, "weight_decay": 0.0}
    assert searched(adapted("icarl", given, recipe)) == ["hp.old_weight"]


def test_a_field_of_the_increments_stands_before_that_of_all_tasks() -> None:
    recipe = {"lr": RATE, "increment": {"lr": {"float": [0.5, 1.0]}}}
    (lr,) = adapted("finetune", recipe=recipe).searched
    assert (lr.name, str(lr.domain)) == ("recipe.lr", "[0.5, 1] log")


def test_a_branch_keeps_the_values_that_it_depends_on() -> None:
    space = adapted("icarl", {"loss": "ce"})
    assert searched(space) == ["hp.kd_weight", "hp.temperature"]
    assert set(space.defaults()) == {"hp.loss", "hp.distill", "hp.kd_weight", "hp.temperature"}


def test_a_method_that_trains_every_task_anew_has_none() -> None:
    assert adapted("joint", recipe={"lr": RATE}).parameters == ()


@pytest.mark.parametrize("method", METHODS.names())
def test_no_method_adapts_its_memory_or_its_answer(method: str) -> None:
    whole = {name: {"choice": list(p.domain.options)} for name, p in hparams(METHODS[method].HP).items()
             if hasattr(p.domain, "options")}  # fmt: skip
    known = hparams(METHODS[method].HP)
    for p in adapted(method, whole).searched:
        param = known[p.name.removeprefix("hp.")]
        assert param.acts_from >= 1
        assert not param.at_boundary


@pytest.mark.parametrize(
    ("method", "given", "recipe"),
    [
        ("lwf", {"distill": {"choice": [True, False]}}, {"lr": RATE, "epochs": {"int": [1, 9]}}),
        ("icarl", {"loss": "ce"}, {}),
        ("replay", {}, {"optimizer": {"choice": ["sgd", "adam"]}}),
    ],
)
def test_a_space_survives_json(method: str, given: dict[str, Any], recipe: dict[str, Any]) -> None:
    space = adapted(method, given, recipe)
    again = from_plain(json.loads(json.dumps(to_plain(space))))
    assert again.defaults() == space.defaults()
    assert str(again) == str(space)
    assert [(p.domain, p.when) for p in again.parameters] == [(p.domain, p.when) for p in space.parameters]
