"""Spaces: sampling, branches, defaults, grids, and what a study file may say of a domain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Domain, Float, Int
from cl_core.method import METHODS
from spaces.space.method_space import space_of
from spaces.space.space import Parameter, Space, inside, narrow


class Dice:
    """An Optuna trial as far as a space asks it, drawing with Python's own generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked: list[str] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(name)
        return self.random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append(name)
        return self.random.randint(low, high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append(name)
        return self.random.choice(choices)


TWO_BRANCHES = Space(
    (
        Parameter("hp.loss", "bce", Choice("bce", "ce")),
        Parameter("hp.weight", 1, Int(1, 3), {"hp.loss": ("bce",)}),
        Parameter("hp.temperature", 2.0, Choice(1.0, 2.0), {"hp.loss": ("ce",)}),
        Parameter("hp.budget", "per_class"),
    )
)


def test_an_inactive_parameter_is_never_suggested() -> None:
    for seed in range(20):
        dice = Dice(seed)
        config = TWO_BRANCHES.sample_with(dice)
        branch = {"bce": "hp.weight", "ce": "hp.temperature"}[str(config["hp.loss"])]
        assert dice.asked == ["hp.loss", branch]
        assert set(config) == {"hp.loss", branch, "hp.budget"}


def test_a_grid_counts_only_what_is_active() -> None:
    assert TWO_BRANCHES.size() == 3 + 2
    points = list(TWO_BRANCHES.points())
    assert [p.get("hp.weight") for p in points] == [1, 2, 3, None, None]
    assert [p.get("hp.temperature") for p in points] == [None, None, None, 1.0, 2.0]


def test_a_branch_below_an_untaken_branch_is_not_taken() -> None:
    space = Space(
        (
            Parameter("hp.a", False, Choice(True, False)),
            Parameter("hp.b", "x", Choice("x", "y"), {"hp.a": (True,)}),
            Parameter("hp.c", 1, Int(1, 2), {"hp.b": ("x",)}),
        )
    )
    assert space.defaults() == {"hp.a": False}
    assert space.size() == 2 + 1 + 1
    assert len(list(space.points())) == 4


def test_an_interval_makes_a_space_infinite_only_where_it_is_reached() -> None:
    space = space_of("icarl", {"loss": {"choice": ["bce"]}, "old_weight": 1.0})
    assert space.size() == 1
    assert space_of("icarl", {"old_weight": {"float": [2, 2]}}).size() == 1
    assert space_of("icarl", {}).size() is None


def test_a_grid_over_an_interval_says_how_to_narrow_it() -> None:
    with pytest.raises(BadRequest, match=r"hp\.kd_weight is .* narrow it to \{choice: \[\.\.\.\]\}"):
        space_of("lwf").points()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hp.los": "bce"}, "unknown parameter 'hp.los': did you mean 'hp.loss'"),
        ({"hp.loss": "bce", "hp.weight": 4, "hp.budget": "per_class"}, "hp.weight must lie in"),
        (
            {"hp.loss": "bce", "hp.weight": 1, "hp.temperature": 2.0, "hp.budget": "per_class"},
            "hp.temperature acts only where hp.loss = ce: remove it",
        ),
        ({"hp.loss": "bce", "hp.budget": "per_class"}, "hp.weight is missing"),
        ({"hp.loss": "bce", "hp.weight": 1, "hp.budget": "total"}, "hp.budget must be one of 'per_class'"),
    ],
)
def test_values_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        TWO_BRANCHES.validate(config)


@pytest.mark.parametrize("method", METHODS.names())
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_every_sampled_trial_of_a_method_is_valid(method: str, seed: int) -> None:
    recipe = {
        "batch": {"choice": [32, 64]},
        "increment": {"lr": {"float": [0.01, 0.2]}, "epochs": {"int": [1, 9]}},
    }
    space = space_of(method, {}, recipe)
    config = space.sample_with(Dice(seed))
    assert space.validate(config) == config
    METHODS[method]({name.removeprefix("hp."): v for name, v in config.items() if name.startswith("hp.")})


@pytest.mark.parametrize("method", METHODS.names())
def test_the_defaults_of_a_method_are_the_published_ones(method: str) -> None:
    published = METHODS[method]().values()
    defaults = space_of(method).defaults()
    assert defaults == {f"hp.{n}": v for n, v in published.items() if f"hp.{n}" in defaults}


DOMAINS = st.one_of(
    st.tuples(st.floats(0.02, 8), st.floats(0.02, 8)).map(
        lambda pair: ("kd_weight", {"float": sorted(pair), "log": True})
    ),
    st.lists(st.floats(1, 5), min_size=1, max_size=4, unique=True).map(
        lambda o: ("temperature", {"choice": o})
    ),
    st.lists(st.sampled_from(["joint", "per_task"]), min_size=1, unique=True).map(
        lambda o: ("kd_softmax", {"choice": o})
    ),
)


@settings(max_examples=50, deadline=None)
@given(narrowed=st.lists(DOMAINS, max_size=3, unique_by=lambda pair: pair[0]))
def test_defaults_lie_within_narrowed_domains(narrowed: list[tuple[str, dict[str, Any]]]) -> None:
    space = space_of("lwf", dict(narrowed))
    assert space.validate(space.defaults()) == space.defaults()


FINITE = st.one_of(
    st.integers(1, 4).flatmap(lambda low: st.integers(low, low + 3).map(lambda high: Int(low, high))),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True).map(lambda o: Choice(*o)),
    st.just(Choice(True, False)),
)


@settings(max_examples=60, deadline=None)
@given(domains=st.lists(FINITE, min_size=1, max_size=4), depends=st.booleans())
def test_grid_points_are_unique_valid_and_as_many_as_the_size(
    domains: list[Int | Choice], depends: bool
) -> None:
    parameters = []
    for index, domain in enumerate(domains):
        before = parameters[-1] if depends and parameters else None
        when = {before.name: (inside(before.domain, before.default),)} if before and before.domain else {}
        default = domain.low if isinstance(domain, Int) else domain.options[0]
        parameters.append(Parameter(f"hp.p{index}", default, domain, when))
    space = Space(tuple(parameters))
    points = list(space.points())
    assert len(points) == space.size()
    assert len({tuple(sorted(p.items())) for p in points}) == len(points)
    assert all(space.validate(p) == p for p in points)
    assert space.defaults() in points


@pytest.mark.parametrize(
    ("domain", "value", "moved"),
    [
        (Float(1.0, 2.0), 5.0, 2.0),
        (Int(3, 9), 1, 3),
        (Choice(1, 4, 16), 5, 4),
        (Choice("ce", "bce"), "bce", "bce"),
        (Choice("ce", "bce"), "focal", "ce"),
        (Choice(False), True, False),
    ],
)
def test_a_default_is_moved_to_the_nearest_value_allowed(
    domain: Float | Int | Choice, value: Any, moved: Any
) -> None:
    assert inside(domain, value) == moved
    assert type(inside(domain, value)) is type(moved)


@pytest.mark.parametrize(
    ("whole", "said", "domain"),
    [
        (Float(0.0, 10.0), {"float": [1, 2]}, Float(1.0, 2.0)),
        (Float(0.1, 10.0, log=True), {"float": [1, 2]}, Float(1.0, 2.0, log=True)),
        (Float(0.1, 10.0, log=True), {"float": [1, 2], "log": False}, Float(1.0, 2.0)),
        (Float(0.0, 10.0), {"choice": [1, 2.5]}, Choice(1.0, 2.5)),
        (Int(1, 9), {"int": [2, 3]}, Int(2, 3)),
        (Choice("a", "b", "c"), {"choice": ["c", "a"]}, Choice("c", "a")),
    ],
)
def test_a_study_file_may_narrow_a_domain(whole: Domain, said: dict[str, Any], domain: Domain) -> None:
    assert narrow("x", whole, said).domain == domain


def test_a_plain_value_fixes_a_parameter() -> None:
    assert narrow("x", Float(0.0, 10.0), 3) == Parameter("x", 3.0)
    assert space_of("lwf", {"kd_weight": 3, "temperature": 2}).size() == 1


@pytest.mark.parametrize(
    ("whole", "said", "message"),
    [
        (Float(0.0, 10.0), 11, "x must lie in"),
        (Float(0.0, 10.0), {"float": [1, 11]}, "x must lie in"),
        (Float(0.0, 10.0), {"float": [2, 1]}, "low <= high"),
        (Float(0.0, 10.0), {"float": [0, 1], "log": True}, "must begin above zero"),
        (Float(0.0, 10.0), {"float": [1]}, r"must be \[low, high\]"),
        (Float(0.0, 10.0), {"int": [1, 2]}, r"use \{float: \[low, high\]\}"),
        (Float(0.0, 10.0), {"float": [float("nan"), 1]}, "must be a number"),
        (Int(1, 9), {"int": [1.5, 3]}, "must be a whole number"),
        (Choice("a", "b"), {"choice": ["a", "d"]}, "must be one of 'a', 'b'"),
        (Choice("a", "b"), {"choice": ["a", "a"]}, "list each value once"),
        (Choice("a", "b"), {"choice": []}, "at least one value"),
        (Choice("a", "b"), {"choise": ["a"]}, "did you mean 'choice'"),
        (Choice("a", "b"), {"choice": ["a"], "float": [0, 1]}, "one domain"),
    ],
)
def test_a_domain_that_does_not_fit_is_refused(whole: Domain, said: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        narrow("x", whole, said)
    assert "\n" not in str(caught.value)


def test_a_searched_recipe_field_starts_from_what_the_fixed_recipe_gives() -> None:
    recipe = {"lr": 0.05, "increment": {"lr": {"float": [0.001, 0.2], "log": True}}}
    defaults = space_of("finetune", {}, recipe, data_recipe={"lr": 0.3}).defaults()
    assert (defaults["recipe.lr"], defaults["recipe.increment.lr"]) == (0.05, 0.05)
    alone = space_of("finetune", {}, {"base": {"lr": {"float": [0.001, 0.5]}}}, data_recipe={"lr": 0.3})
    assert alone.defaults()["recipe.base.lr"] == 0.3


@pytest.mark.parametrize(
    ("given_values", "recipe", "message"),
    [
        ({"kd_weigth": 1}, {}, "unknown hyperparameter of lwf 'kd_weigth': did you mean 'kd_weight'"),
        ({"kd_weight": 1000}, {}, "methods.lwf.kd_weight must lie in"),
        ({}, {"epoch": 1}, "unknown recipe key 'epoch': did you mean 'epochs'"),
        ({}, {"increment": {"net": "convnet"}}, "unknown key of recipe.increment 'net'"),
        ({}, {"increment": 3}, "recipe.increment must be a mapping"),
        ({}, {"net": "resnet23"}, "unknown net 'resnet23': did you mean 'resnet32'"),
    ],
)
def test_what_a_method_does_not_have_is_refused(
    given_values: dict[str, Any], recipe: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        space_of("lwf", given_values, recipe)


def test_a_hyperparameter_whose_branch_is_shut_is_left_out_and_named() -> None:
    space = space_of("icarl", {"loss": "bce", "kd_weight": 1.0})
    assert "hp.kd_weight" not in space.defaults()
    assert space.inert == {"hp.kd_weight": "hp.loss = ce and hp.distill = True"}


def test_a_method_that_restarts_leaves_out_the_recipe_of_the_increments() -> None:
    recipe = {
        "lr": {"float": [0.01, 0.2]},
        "base": {"epochs": 4},
        "increment": {"lr": {"float": [0.01, 0.2]}, "epochs": 2},
    }
    space = space_of("joint", {}, recipe)
    assert [p.name for p in space.parameters] == ["recipe.lr", "recipe.base.epochs"]
    with pytest.raises(BadRequest, match=r"recipe\.increment\.lr must lie in"):
        space_of("joint", {}, {"increment": {"lr": -1}})


def test_a_space_describes_itself_in_words() -> None:
    assert str(TWO_BRANCHES) == "hp.loss {bce, ce}, hp.weight {1..3}, hp.temperature {1.0, 2.0}"
