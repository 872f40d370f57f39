"""The coreset: nonnegative weights, a falling objective, and gradients that are matched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cl_core.blocks.coreset import coreset, matching_pursuit
from tests import tiny


def _sample(seed: int, n: int = 20, classes: int = 4, dim: int = 6) -> tuple[Tensor, Tensor]:
    errors = tiny.normal(seed, n, classes).softmax(dim=1)
    errors[:, 0] -= 1
    return errors.double(), tiny.normal(seed + 1000, n, dim).double().abs()


def _gradients(errors: Tensor, features: Tensor) -> Tensor:
    """The gradients [N, K (D + 1)] of the last layer, written out."""
    with_bias = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    return torch.einsum("nk,nd->nkd", errors, with_bias).flatten(1)


def _objective(errors: Tensor, features: Tensor, picked: Tensor, w: Tensor, ridge: float) -> float:
    g = _gradients(errors, features)
    rest = g.sum(dim=0) - w @ g[picked]
    return float(rest.square().sum() + ridge * g.square().sum(dim=1).mean() * w.square().sum())


def test_one_sample_by_hand() -> None:
    # Gradients (1, 2), (2, 4) and (3, 6) of one output and one feature: their sum is (6, 12).
    errors, features = torch.tensor([[1.0], [2.0], [3.0]]), torch.full((3, 1), 2.0)
    picked, w = matching_pursuit(errors, features, torch.ones(3), 1, 0.0)
    assert picked.tolist() == [2]
    assert w.item() == pytest.approx(2.0)  # 2 (3, 6) is the sum
    # The mean squared length is (5 + 20 + 45) / 3: <(3, 6), (6, 12)> / (45 + 0.5 of it).
    _, w = matching_pursuit(errors, features, torch.ones(3), 1, 0.5)
    assert w.item() == pytest.approx(90 / (45 + 0.5 * 70 / 3))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 500), ridge=st.sampled_from([1e-3, 0.5, 10.0]))
def test_weights_are_positive_and_the_objective_falls_with_every_sample(seed: int, ridge: float) -> None:
    errors, features = _sample(seed)
    before = float(_gradients(errors, features).sum(dim=0).square().sum())
    for k in (1, 2, 5, 10, 20):
        picked, w = matching_pursuit(errors, features, torch.ones(20), k, ridge)
        assert (w > 0).all()
        assert len(set(picked.tolist())) == len(picked) <= k
        now = _objective(errors, features, picked, w, ridge)
        assert now <= before * (1 + 1e-9)
        before = now


def test_with_all_samples_and_no_ridge_nothing_is_left_of_the_gradient() -> None:
    errors, features = _sample(3)
    picked, w = matching_pursuit(errors, features, torch.ones(20), 20, 1e-9)
    whole = float(_gradients(errors, features).sum(dim=0).square().sum())
    assert _objective(errors, features, picked, w, 0.0) < 1e-9 * whole


def test_weights_solve_the_ridge_regression_of_the_picked_gradients() -> None:
    errors, features = _sample(0)
    picked, w = matching_pursuit(errors, features, torch.ones(20), 6, 0.5)
    g = _gradients(errors, features)
    r = 0.5 * g.square().sum(dim=1).mean()
    expected = torch.linalg.solve(g[picked] @ g[picked].T + r * torch.eye(6), g[picked] @ g.sum(dim=0))
    assert torch.allclose(w, expected)


def test_the_scale_of_the_gradients_changes_neither_picks_nor_weights() -> None:
    errors, features = _sample(1)
    picked, w = matching_pursuit(errors, features, torch.ones(20), 5, 0.5)
    again, w_again = matching_pursuit(1e-4 * errors, features, torch.ones(20), 5, 0.5)
    assert torch.equal(picked, again)
    assert torch.allclose(w, w_again)


def test_a_sample_of_weight_three_counts_as_three_samples() -> None:
    errors, features = _sample(2, n=8)
    weights = torch.tensor([3.0, 1, 1, 1, 1, 1, 1, 1])
    g = _gradients(errors, features)
    picked, w = matching_pursuit(errors, features, weights, 8, 1e-9)
    assert torch.allclose(w @ g[picked], weights.double() @ g, rtol=1e-5)


def test_places_that_no_sample_deserves_are_filled_at_random_with_weight_1() -> None:
    # The sum points where the first sample does, and the others point away from it.
    errors, features = torch.tensor([[5.0], [-1], [-1], [-1]]), torch.zeros(4, 1)
    g = torch.Generator().manual_seed(0)
    picked, w = coreset(errors, features, torch.ones(4), 3, 1e-9, g)
    assert picked[0] == 0
    assert len(set(picked.tolist())) == 3
    assert w.tolist() == pytest.approx([2 / 5, 1, 1])
    assert w.dtype == torch.float32


def test_a_coreset_is_nearer_to_the_gradient_than_as_many_samples_of_equal_weight() -> None:
    apart = []
    for seed in range(10):
        errors, features = _sample(seed, n=40)
        g = _gradients(errors, features)
        picked, w = matching_pursuit(errors, features, torch.ones(40), 6, 0.01)
        rests = (g.sum(dim=0) - w @ g[picked], g.sum(dim=0) - 40 * g[:6].mean(dim=0))
        apart.append([float(rest.norm()) for rest in rests])
    assert all(coreset < 0.6 * equal for coreset, equal in apart)
