"""Trials of several cells on one scale: draws by hand, errors of rows, and how well probabilities hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.selection.best_of_cells import Model, draws, smoothed


def model(values: np.ndarray, error: float = 0.0) -> Model:
    """`values` [cells, trials, orders]; `error` is the variance of each run's rows."""
    cells, trials, _ = values.shape
    cell, trial, order = (x.reshape(-1) for x in np.meshgrid(*map(np.arange, values.shape), indexing="ij"))
    number = cell * trials + trial
    apart = np.full((cells * trials, cells * trials), np.inf)
    np.fill_diagonal(apart, 0.0)
    of = np.repeat(np.arange(cells), trials)
    return Model(values.reshape(-1), number, order, error * np.eye(values.size), of, apart)


def test_the_difference_of_two_cells_is_that_of_their_means_where_trials_are_alike():
    """Two trials a cell, both +-.01 around .5 and .6 on each order: nothing pulls the cells together."""
    pair = np.array([[0.51, 0.49], [0.49, 0.51]])
    found = draws(model(np.stack([pair, pair + 0.1])), 4)
    assert (found[:, 0] == 0).all()
    assert np.median(found[:, 2:].mean(axis=1) - found[:, :2].mean(axis=1)) == pytest.approx(0.1, abs=0.003)
    assert (found[:, 2:].max(axis=1) > found[:, :2].max(axis=1)).mean() > 0.95


def test_equal_values_within_cells_leave_the_cells_alone():
    values = np.array([[[0.5, 0.5]], [[0.6, 0.6]]])
    assert draws(model(values), 2) == pytest.approx(np.tile([0.0, 0.1], (4000, 1)))
    with pytest.raises(ValueError, match="finite"):
        draws(model(np.array([[[np.nan]]])), 1)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_two_cells_are_the_best_as_often_whichever_comes_first(seed):
    values = np.random.default_rng(seed).normal(0.5, 0.01, (2, 3, 2))
    one, other = draws(model(values), 6), draws(model(values[::-1]), 6)
    first = (one.argmax(axis=1) < 3).mean()
    assert first == pytest.approx((other.argmax(axis=1) >= 3).mean(), abs=0.05)


def test_the_covariance_of_rows_is_the_mean_over_pairs_of_a_kind():
    """Runs 0 and 1 of trial 0, run 2 of trial 1 in cell 0; run 3 of trial 2 in cell 1."""
    error = np.array([[8.0, 4.0, 2.0, 1.0], [4.0, 6.0, 0.0, 1.0], [2.0, 0.0, 7.0, 1.0], [1.0, 1.0, 1.0, 5.0]])
    found = smoothed(error, np.array([0, 0, 1, 2]), np.array([0, 0, 1]))
    assert found[:3, :3] == pytest.approx(np.array([[7.0, 4.0, 1.0], [4.0, 7.0, 1.0], [1.0, 1.0, 7.0]]))
    assert found[3] == pytest.approx(np.array([1.0, 1.0, 1.0, 5.0]))


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [1, 2, 4])
def test_the_trial_that_is_called_the_best_is_so_at_least_as_often_as_said(fresh):
    """100 lakes: four cells of eight trials on one class order, the best two of each on fresh ones."""
    draw = np.random.default_rng(fresh)
    said, right = [], []
    for _ in range(100):
        level, own = draw.normal(0, 0.015, (4, 1)), draw.normal(0, 0.01, (4, 8))
        order = draw.normal(0, 0.02, 1 + fresh) + draw.normal(0, 0.01, (4, 1, 1 + fresh))
        values = (level + own)[:, :, None] + order + draw.normal(0, 0.01, (4, 8, 1 + fresh))
        whole = model(values)
        top = np.argsort(-values[:, :, 0], axis=1)[:, :2]
        kept = (whole.order == 0) | np.isin(whole.trial % 8, 99)
        for cell in range(4):
            kept |= (whole.trial // 8 == cell) & np.isin(whole.trial % 8, top[cell])
        part = Model(
            whole.value[kept],
            whole.trial[kept],
            whole.order[kept],
            whole.error[np.ix_(kept, kept)],
            whole.cell,
            whole.apart,
        )
        share = np.bincount(draws(part, 32).argmax(axis=1), minlength=32) / 4000
        said.append(share.max())
        right.append(int(share.argmax()) == int((level + own).argmax()))
    assert np.mean(said) <= np.mean(right) + 0.05
