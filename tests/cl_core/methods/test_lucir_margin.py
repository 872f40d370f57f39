"""LUCIR's margin."""

from __future__ import annotations

import pytest
import torch

from cl_core.blocks.cosine import margin_ranking
from cl_core.method import METHODS
from tests import tiny

LUCIR = METHODS["lucir"]


def test_the_margin_by_hand() -> None:
    cosines = torch.tensor([[0.5, -0.5, 0.3, 0.9, 0.1], [0.9, 0.0, 0.2, 0.0, -1.0]])
    # Old are 0 and 1. First sample, label 0: 0.5 - 0.5 + (0.9, 0.3); second: 0.5 - 0.0 + (0.2, 0.0).
    value = margin_ranking(cosines, torch.tensor([0, 1]), 2, 2, 0.5)
    assert value.item() == pytest.approx((0.9 + 0.3 + 0.7 + 0.5) / 4)
    assert margin_ranking(cosines, torch.tensor([0, 1]), 2, 1, 0.5).item() == pytest.approx((0.9 + 0.7) / 2)
    # The sample of a new class is neither in the sum nor in the mean.
    assert margin_ranking(cosines, torch.tensor([0, 4]), 2, 2, 0.5).item() == pytest.approx((0.9 + 0.3) / 2)


def test_samples_of_new_classes_get_no_gradient_from_the_margin() -> None:
    cosines = tiny.normal(0, 4, 5).tanh().requires_grad_()
    value = margin_ranking(cosines, torch.tensor([0, 3, 1, 4]), 2, 2, 1.0)
    gradient = torch.autograd.grad(value, cosines)[0]
    assert not gradient[[1, 3]].any()
    assert gradient[[0, 2]].any(dim=1).all()


def test_a_margin_that_is_kept_costs_nothing() -> None:
    kept = torch.tensor([[0.75, 0.0, 0.25, 0.125]], requires_grad=True)
    value = margin_ranking(kept, torch.tensor([0]), 2, 2, 0.5)
    assert value.item() == 0
    assert not torch.autograd.grad(value, kept)[0].any()
    assert margin_ranking(kept, torch.tensor([0]), 2, 2, 0.6).item() > 0


def test_a_batch_without_old_samples_has_no_margin_and_a_finite_gradient() -> None:
    cosines = tiny.normal(0, 3, 5).tanh().requires_grad_()
    value = margin_ranking(cosines, torch.tensor([2, 3, 4]), 2, 2, 0.5)
    assert value.item() == 0
    assert not torch.autograd.grad(value, cosines)[0].any()


def test_the_margin_s_gradient_is_that_of_finite_differences() -> None:
    cosines = tiny.normal(0, 6, 7).double().tanh().requires_grad_()
    y = torch.tensor([0, 1, 5, 2, 6, 0])
    assert torch.autograd.gradcheck(lambda c: margin_ranking(c, y, 3, 2, 0.5), cosines)


@pytest.mark.parametrize("negatives", [2, 5])
def test_more_negatives_than_new_classes_are_all_of_them(negatives: int) -> None:
    cosines, y = tiny.normal(0, 4, 4).tanh(), torch.tensor([0, 1, 2, 3])
    one = margin_ranking(cosines, y, 3, 1, 0.5)
    assert torch.equal(margin_ranking(cosines, y, 3, negatives, 0.5), one)
