"""The posterior of differences from the default: hand-computed numbers, and planted truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from analysis.selection.posterior import Floats, given, posterior

NOISE, ORDERS = 0.0115, 0.03  # standard deviations, as measured on CIFAR-10 images


def test_given_the_variances_the_difference_of_two_trials_is_the_shrunk_mean_difference() -> None:
    """Two trials on the same two class orders: orders cancel, and 2 differences of variance 2 s² remain.

    With trial variance 1 and noise variance 1, the prior variance of the difference is 2 and that of its mean
    1. So the posterior mean is 2 / 3 of the mean difference (3 - 1 + 5 - 1) / 2 = 3, and its variance 2 / 3.
    """
    trial, order = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    value = np.array([1.0, 3.0, 1.0, 5.0])
    _, mean, spread = given(trial, order, value, np.zeros(4), np.array([[1.0, 1e9, 1.0]]), 0, 2)
    assert mean[0] == pytest.approx([0.0, 2.0], abs=1e-6)
    assert spread[0] == pytest.approx([0.0, 2 / 3], abs=1e-6)


def test_a_known_variance_adds_to_the_noise() -> None:
    trial, order = np.array([0, 1]), np.array([0, 0])
    found = [
        given(trial, order, np.array([0.0, 4.0]), np.full(2, known), np.array([[1.0, 1.0, noise]]), 0, 2)
        for known, noise in ((1.0, 2.0), (0.0, 3.0))
    ]
    assert found[0][1] == pytest.approx(found[1][1])
    assert found[0][1][0, 1] == pytest.approx(4.0 * 2 / (2 + 6))  # prior variance 2, noise 2 x 3


def test_the_restricted_likelihood_is_that_of_contrasts() -> None:
    """With n values of variance v = trials + noise it is the density of n - 1 contrasts."""
    value = np.array([0.3, 1.1, -0.7])
    grid = np.array([[0.5, 1e-9, 0.5], [1.0, 1e-9, 1.0], [0.1, 1e-9, 0.4]])
    found, _, _ = given(np.arange(3), np.zeros(3, dtype=int), value, np.zeros(3), grid, 0, 3)
    sums, v = ((value - value.mean()) ** 2).sum(), grid[:, 0] + grid[:, 2]
    expected = -0.5 * (2 * np.log(v) + sums / v)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-5)


def test_equal_values_say_nothing() -> None:
    found = posterior(np.arange(3), np.zeros(3, dtype=int), np.full(3, 0.4))
    assert not found.difference.any()
    assert not found.p_better.any()


def test_more_orders_narrow_the_interval_and_a_trial_without_runs_is_least_certain() -> None:
    rng = np.random.default_rng(0)
    trial, order = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    value = 0.02 * trial + 0.03 * order + rng.normal(0, 0.01, 20)
    points = np.zeros((5, 1))
    some = order < 2
    few, many = (
        posterior(trial[rows], order[rows], value[rows], points=points) for rows in (some, slice(None))
    )
    assert (many.sd[1:4] < few.sd[1:4]).all()
    assert many.sd[4] > many.sd[1:4].max()
    assert (many.low < many.difference)[1:].all()
    assert many.p_better[3] > 0.99


class Searched(NamedTuple):
    """A simulated search of a cell: the effects of the trial that the rule selects, and of the best seen."""

    selected: int
    seen: int


def searched(effects: Floats, seed: int, top: int = 3, orders: int = 3, keep: float = 0.8) -> Searched:
    """Search on one class order, confirm the `top` and the default (trial 0) on fresh ones, and select."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, ORDERS, 1 + orders)
    first = effects + shift[0] + rng.normal(0, NOISE, len(effects))
    best = [int(t) for t in np.argsort(-first) if t][:top]
    again = [(t, o) for o in range(1, 1 + orders) for t in (0, *best)]
    more = [effects[t] + shift[o] + rng.normal(0, NOISE) for t, o in again]
    trial = np.array([*range(len(effects)), *(t for t, _ in again)])
    order = np.array([*np.zeros(len(effects), dtype=int), *(o for _, o in again)])
    found = posterior(trial, order, np.array([*first, *more]))
    passed = [t for t in best if found.p_better[t] >= keep]
    return Searched(max(passed, key=lambda t: found.difference[t], default=0), int(np.argmax(first)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "least_gain", "most_worse"),
    [("one best", 0.9, 0.01), ("the default", 0.0, 0.01), ("nothing", 0.0, 0.0), ("many", 0.65, 0.05)],
)
def test_planted_truth_is_found_and_the_default_kept_where_nothing_beats_it(
    planted: str, least_gain: float, most_worse: float
) -> None:
    gains, seen, best, kept = [], [], [], []
    for seed in range(200):
        effects = np.zeros(18)
        if planted == "one best":
            effects[5] = 0.04
        elif planted == "the default":
            effects[0] = 0.02
        elif planted == "many":
            effects = np.random.default_rng(10_000 + seed).normal(0, 0.0105, 18)
        found = searched(effects, seed)
        gains.append(effects[found.selected] - effects[0])
        seen.append(effects[found.seen] - effects[0])
        best.append(effects.max() - effects[0])
        kept.append(found.selected == 0)
    assert np.mean(gains) >= least_gain * np.mean(best) - 1e-12
    assert np.mean(np.array(gains) < -0.005) <= most_worse
    assert np.mean(gains) >= np.mean(seen)
    if planted in ("the default", "nothing"):
        assert np.mean(kept) >= 0.75
