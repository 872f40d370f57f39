"""The recorded class orders, and what a search gains over the published default on them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from analysis.selection.posterior import (
    NOISE,
    SMOOTH_AMPLITUDES,
    TRIAL_AMPLITUDE,
    Amplitudes,
    given,
    matern,
)
from tests.benchmarks import tuning
from tests.search.replay.class_orders import recorded

CELLS = sorted(recorded())


@pytest.mark.parametrize("name", CELLS)
def test_a_recorded_cell_has_the_default_eight_class_orders_and_the_bits_of_its_counts(name: str) -> None:
    cell = recorded()[name]
    trials, orders, tasks = cell.validation.shape
    assert (trials, orders) == (100, 8)
    assert cell.points.min() == 0.0
    assert cell.points.max() == 1.0
    assert len(cell.rows) == tasks
    for task, rows in enumerate(cell.rows):
        assert rows.mean(axis=2) == pytest.approx(cell.validation[:, :, task])
    default = cell.values.iloc[cell.default]
    assert default["increment.lr"] == 0.002
    assert np.ptp(cell.validation[:, :, 0], axis=0).max() == 0.0  # the first task is shared


@pytest.mark.parametrize("name", CELLS)
def test_a_confirmed_selection_is_seldom_worse_than_the_default_and_gains_no_less_than_the_best_seen(
    name: str,
) -> None:
    """20 seeds; the figures of 200 stand in search/README.md."""
    found = tuning.of_cell(recorded()[name], 20, (30,))
    # Where the default is the best, its record's validation rows decide how many are taken in.
    nothing_to_gain = found["reachable_gain"] < 0
    assert found["ours_worse_on_all_at_30"] <= (0.25 if nothing_to_gain else 0.1)
    assert found["gain_at_30"] > (-0.006 if nothing_to_gain else -0.002)
    assert found["gain_at_30"] > found["today_gain_at_30"] - 0.003
    assert found["oracle_gain"] >= found["gain_at_30"]


@pytest.mark.parametrize("design", sorted(set(tuning.DESIGNS) - {"today"}))
def test_a_budget_too_small_to_confirm_is_searched_as_today(design: str) -> None:
    cell = recorded()[CELLS[0]]
    draws = [tuning.DESIGNS[name](cell, 5, 3) for name in ("today", design)]
    assert draws[0][0] == draws[1][0]
    assert draws[0][1].tolist() == draws[1][1].tolist()


def test_the_budget_for_a_gain_lies_between_those_that_were_replayed() -> None:
    gains = {10: 0.01, 30: 0.02, 60: 0.015, 100: 0.03}  # 60 gains less than 30, which is enough for .02
    assert tuning.budget_for(0.015, gains) == pytest.approx(20)
    assert tuning.budget_for(0.025, gains) == pytest.approx(80)
    assert tuning.budget_for(0.05, gains) == 100
    assert tuning.budget_for(0.0, gains) == 10


def test_selections_are_judged_by_the_most_likely_fit_of_the_model_of_a_confirmation() -> None:
    cell = recorded()[CELLS[0]]
    means = cell.test[:, [1, 4, 6]].mean(axis=(1, 2))
    one, none, scale = np.arange(len(means)), np.zeros((len(means), len(means))), float(means.var())
    apart = np.sqrt(((cell.points[:, None] - cell.points) ** 2).sum(axis=2))
    fits = []
    for length, smooth, noise in product(tuning.LENGTH_SCALES, SMOOTH_AMPLITUDES, NOISE):
        trials = scale * (smooth**2 * matern(apart / length) + TRIAL_AMPLITUDE**2 * np.eye(len(means)))
        amplitudes = Amplitudes(trials, none)
        fits.append(given(one, 0 * one, means, none, noise**2 * scale, amplitudes, cell.default))
    assert tuning.truth(cell.cell, (1, 4, 6)) == pytest.approx(max(fits, key=lambda fit: fit[0])[1])
