"""The posterior of differences from the default: hand-computed numbers, and planted truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from analysis.selection.posterior import Amplitudes, Floats, given, posterior

NOISE, ORDERS = 0.0115, 0.03  # standard deviations, as measured on CIFAR-10 images


def test_given_the_amplitudes_the_difference_of_two_trials_is_the_shrunk_mean_difference() -> None:
    """Two trials on the same two class orders, differences 2 and 4.

    Noise has variance 1, so each difference has 2. The difference of the effects has prior variance 2 and its
    estimate, the mean 3, variance 1: the posterior mean is 3 x 2 / 3 and its variance 2 / 3.
    """
    trial, order = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    value = np.array([1.0, 3.0, 1.0, 5.0])
    two, orders = Amplitudes(np.eye(2), np.zeros((2, 2))), 1e4 * (order[:, None] == order)
    _, mean, spread = given(trial, order, value, orders, 1.0, two, 0)
    assert mean == pytest.approx([0.0, 2.0], abs=0.01)
    assert spread == pytest.approx([0.0, 2 / 3], rel=0.01)


def test_an_error_of_the_rows_is_not_lessened_by_more_class_orders() -> None:
    """The same rows favour trial 1 by an error of variance 1, on every class order.

    Without noise the mean difference 3 has the variance 1 on one class order and on a hundred. The prior
    variance is 2, so the posterior mean is 3 x 2 / 3, and the variance 2 / 3.
    """
    for orders in (1, 100):
        trial, order = np.tile([0, 1], orders), np.repeat(np.arange(orders), 2)
        known = 1.0 * np.outer(trial, trial) + 1e4 * (order[:, None] == order)
        two = Amplitudes(np.eye(2), np.zeros((2, 2)))
        _, mean, spread = given(trial, order, 3.0 * trial, known, 1e-8, two, 0)
        assert mean == pytest.approx([0.0, 2.0], rel=0.01)
        assert spread == pytest.approx([0.0, 2 / 3], rel=0.01)


def test_two_trials_of_one_training_differ_by_less_noise() -> None:
    """Noise of variance 1 with correlation 1/2: that of a difference is 1, its prior variance 2.

    So of the difference 3 the posterior mean is 3 x 2 / 3, with variance 2 / 3; apart, 3 / 2 and 1.
    """
    pair, two = np.arange(2), Amplitudes(np.eye(2), np.zeros((2, 2)))
    for noise, expected in ((np.array([[1, 0.5], [0.5, 1]]), (2, 2 / 3)), (np.eye(2), (1.5, 1))):
        _, mean, spread = given(pair, 0 * pair, 3.0 * pair, np.zeros((2, 2)), 1.0, two, 0, noise)
        assert (mean[1], spread[1]) == pytest.approx(expected)
    value = np.array([0.0, 0.1, 0.3, 0.2])
    apart = posterior(np.arange(4), np.zeros(4, int), value)
    alone = posterior(np.arange(4), np.zeros(4, int), value, training=np.arange(4))
    together = posterior(np.arange(4), np.zeros(4, int), value, training=np.array([0, 0, 1, 2]))
    assert (alone.difference == apart.difference).all()
    assert together.sd[1] < apart.sd[1]


def test_the_restricted_likelihood_is_that_of_contrasts() -> None:
    """Three trials on one class order: two contrasts of variance a² + 1 in units of the noise."""
    value = np.array([0.3, 1.1, -0.7])
    amplitudes = np.array([0.1, 1.0, 3.0])
    found = np.array(
        [
            given(
                np.arange(3),
                np.zeros(3, int),
                value,
                np.zeros((3, 3)),
                0.5,
                Amplitudes(a**2 * np.eye(3), np.zeros((3, 3))),
                0,
            )[0]
            for a in amplitudes
        ]
    )
    scale = amplitudes**2 + 0.5
    squares = ((value - value.mean()) ** 2).sum() / scale
    expected = -0.5 * (2 * np.log(scale) + squares)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-6)


def test_of_three_searched_values_the_one_that_decides_need_not_be_named() -> None:
    """One of three values has a narrow optimum, the others do nothing.

    Over 20 draws the error of the posterior is less than half as large again as where the others are left
    out. With one length scale for all three values it is 1.8 times as large.
    """
    errors: dict[str, list[float]] = {"all three": [], "the one": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places, order = rng.random((40, 3)), np.arange(40) % 2
        gain = 0.05 * np.exp(-(((places[:, 0] - 0.3) / 0.15) ** 2))
        value = gain + ORDERS * order + rng.normal(0, NOISE, 40)
        for name, axes in (("all three", places), ("the one", places[:, :1])):
            found = posterior(np.arange(40), order, value, points=axes)
            errors[name].append(float(np.std(found.difference - gain)))
    assert np.mean(errors["all three"]) < 1.5 * np.mean(errors["the one"])
    assert np.mean(errors["all three"]) < NOISE


def test_near_trials_inform_each_other_and_one_without_points_does_not() -> None:
    """Accuracy rises along one value; trial 4 has not run and lies beside the best."""
    places = np.array([[0.0], [0.3], [0.6], [0.9], [0.95]])
    trial, order = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    value = 0.1 * places[trial, 0] + 0.03 * order + np.random.default_rng(0).normal(0, 0.002, 12)
    near = posterior(trial, order, value, points=places)
    apart = posterior(trial, order, value, points=10.0 * np.arange(5)[:, None])
    assert 0.05 < near.difference[4] < 0.1  # taken back towards the mean
    assert near.sd[4] < apart.sd[4]
    assert near.p_better[4] > 0.85 > apart.p_better[4]


def test_what_holds_on_one_class_order_alone_is_not_believed_of_others() -> None:
    """24 trials on one class order say less of the mean than 24 on four of them, at the same values."""
    places = np.linspace(0, 1, 24)[:, None]
    value = 0.05 * places[:, 0] + np.random.default_rng(1).normal(0, 0.002, 24)
    order = np.arange(24) % 4
    one = posterior(np.arange(24), np.zeros(24, int), value, points=places)
    four = posterior(np.arange(24), order, value + 0.03 * order, points=places)
    assert 0.01 < one.sd[23] < 0.02  # of a difference of 0.05
    assert four.sd[23] < 0.6 * one.sd[23]
    assert 0 < one.difference[23] < 0.8 * four.difference[23]


def test_equal_values_say_nothing() -> None:
    found = posterior(np.arange(3), np.zeros(3, dtype=int), np.full(3, 0.4))
    assert not found.difference.any()
    assert not found.p_better.any()


def test_equal_values_of_few_rows_are_not_certain() -> None:
    """Three shares of 100 rows that happen to agree: each could be the better one, by some rows."""
    found = posterior(np.arange(3), np.zeros(3, dtype=int), np.full(3, 0.4), 0.24 / 100 * np.eye(3))
    assert found.difference == pytest.approx(np.zeros(3))
    assert found.p_better[1:] == pytest.approx([0.5, 0.5])
    assert found.low[1:].max() < -0.01


def test_more_orders_narrow_the_interval_and_a_trial_without_runs_is_least_certain() -> None:
    rng = np.random.default_rng(0)
    trial, order = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    value = 0.02 * trial + 0.03 * order + rng.normal(0, 0.01, 20)
    points = 10.0 * np.arange(5)[:, None]
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
        assert np.mean(kept) >= 0.7
