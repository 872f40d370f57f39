"""Recipes: layers of plain values, learning rates by epoch."""

from __future__ import annotations

import pytest

from cl_core.errors import BadRequest
from cl_core.hparams import hparams, to_dict
from cl_core.recipe import Recipe, resolve_recipe


def _rates(recipe: Recipe) -> list[float]:
    return [recipe.learning_rate(epoch) for epoch in range(recipe.epochs)]


def test_the_step_schedule_by_hand() -> None:
    recipe = Recipe(epochs=8, lr=1.0, milestones="0.5,0.75", gamma=0.1)
    assert _rates(recipe) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_with_a_shorter_period_rises_again() -> None:
    rates = _rates(Recipe(epochs=100, lr=1.0, schedule="cosine", period=0.32))
    assert [rates[0], rates[16], rates[32], rates[64], rates[96]] == pytest.approx([1, 0.5, 0, 1, 0])
    assert rates[99] == pytest.approx(0.0215, abs=1e-4)
    assert _rates(Recipe(epochs=4, lr=1.0, schedule="cosine"))[2] == pytest.approx(0.5)


def test_milestones_scale_with_the_epochs() -> None:
    assert _rates(Recipe(epochs=2, lr=1.0)) == pytest.approx([1, 0.1])
    assert _rates(Recipe(epochs=1, lr=1.0)) == [1]
    assert _rates(Recipe(epochs=3, lr=1.0, milestones="")) == [1, 1, 1]


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_milestone_in_hundredths_falls_on_its_own_epoch(percent: int) -> None:
    rates = _rates(Recipe(epochs=100, lr=1.0, milestones=repr(percent / 100), gamma=0.5))
    assert rates == [1.0] * percent + [0.5] * (100 - percent)


def test_published_milestones_are_met_exactly() -> None:
    for epochs, milestones in (
        (70, (49, 63)),
        (160, (80, 120)),
        (200, (60, 120, 170)),
        (250, (100, 150, 200)),
    ):
        text = ",".join(repr(m / epochs) for m in milestones)
        rates = _rates(Recipe(epochs=epochs, lr=1.0, milestones=text, gamma=0.1))
        changes = [e for e in range(1, epochs) if rates[e] != rates[e - 1]]
        assert changes == list(milestones)


def test_the_cosine_schedule_by_hand() -> None:
    recipe = Recipe(epochs=4, lr=2.0, schedule="cosine")
    assert _rates(recipe) == pytest.approx([2.0, 1 + 2**-0.5, 1.0, 1 - 2**-0.5])
    assert _rates(Recipe(epochs=3, lr=0.5, schedule="constant")) == [0.5] * 3


def test_later_layers_win_key_by_key() -> None:
    recipe = resolve_recipe({"epochs": 10, "lr": 0.5}, {}, {"lr": 0.2, "batch": 32}, {"batch": 64})
    assert (recipe.epochs, recipe.lr, recipe.batch) == (10, 0.2, 64)
    assert recipe.momentum == Recipe().momentum


def test_a_recipe_survives_plain_values() -> None:
    recipe = Recipe(epochs=7, milestones="0.2,0.9", optimizer="adam")
    assert resolve_recipe(to_dict(recipe)) == recipe
    assert list(to_dict(recipe)) == list(hparams(Recipe))


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"epoch": 3}, "unknown recipe key 'epoch': did you mean 'epochs'"),
        ({"epochs": 0}, "epochs must lie in"),
        ({"lr": 0}, "lr must lie in"),
        ({"optimizer": "lion"}, "optimizer must be one of 'sgd', 'adam', 'adamw'"),
        ({"milestones": [0.9, 0.1]}, "milestones must be increasing"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, object], rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as caught:
        resolve_recipe({}, values)
    assert "\n" not in str(caught.value)
