"""Cross-entropy over the new classes, and separated softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.losses import fallback_note, new_only, separated
from tests import tiny
from tests.cl_core.blocks.loss_inputs import LN2, LN3, gradient_in, logits

# Cross-entropy over the new classes


def test_new_only_by_hand_and_without_gradient_on_old_logits() -> None:
    z = torch.tensor([[9.0, -9.0, LN3, 0.0]], requires_grad=True)
    loss = new_only(z, torch.tensor([2]), tiny.task(2, 2))
    assert loss.item() == pytest.approx(math.log(4 / 3), abs=1e-6)  # softmax (3/4, 1/4)
    gradient = gradient_in(loss, z)
    assert torch.equal(gradient[:, :2], torch.zeros(1, 2))
    assert torch.allclose(gradient[:, 2:], torch.tensor([[-0.25, 0.25]]), atol=1e-6)


def test_on_the_first_task_new_only_is_plain_cross_entropy_bit_for_bit() -> None:
    z, y = logits(0), torch.tensor([0, 1, 2, 3, 0])
    assert torch.equal(new_only(z, y, tiny.task(4)), F.cross_entropy(z, y))
    assert torch.equal(separated(z, y, tiny.task(4)), F.cross_entropy(z, y))


def test_defect_pycil_new_only_learns_nothing_from_one_new_class() -> None:
    z, y = logits(0).requires_grad_(), torch.full((5,), 3)
    constant = F.cross_entropy(z[:, 3:], y - 3)
    assert constant.item() == 0
    task = tiny.task(3, 1)
    for loss in (new_only(z, y, task), separated(z, y, task)):
        assert torch.equal(loss, F.cross_entropy(z, y))
        assert gradient_in(loss, z).abs().max() > 0.01
    note = fallback_note(task)
    assert note is not None
    assert "all seen classes" in note
    assert fallback_note(tiny.task(1)) is None
    assert fallback_note(tiny.task(3, 2)) is None


# Separated softmax


def test_separated_softmax_by_hand() -> None:
    z = torch.tensor([[LN3, 0.0, 50.0, 50.0], [50.0, 50.0, 0.0, 0.0]])
    loss = separated(z, torch.tensor([0, 3]), tiny.task(2, 2))
    assert loss.item() == pytest.approx((math.log(4 / 3) + LN2) / 2, abs=1e-6)


def test_separated_softmax_gives_no_gradient_across_old_and_new() -> None:
    z = logits(0).requires_grad_()
    y = torch.tensor([0, 3, 2, 1, 3])
    gradient = gradient_in(separated(z, y, tiny.task(2, 2)), z)
    is_new = y >= 2
    assert not gradient[is_new][:, :2].any()
    assert not gradient[~is_new][:, 2:].any()
    assert gradient[is_new][:, 2:].any()
    assert gradient[~is_new][:, :2].any()


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [2, 3, 3, 2, 3], [0, 3, 1, 2, 0]])
def test_separated_softmax_averages_over_all_samples(labels: list[int]) -> None:
    z, y = logits(0).requires_grad_(), torch.tensor(labels)
    each = [
        F.cross_entropy(z[i, 2:][None], y[i : i + 1] - 2)
        if y[i] >= 2
        else F.cross_entropy(z[i, :2][None], y[i : i + 1])
        for i in range(5)
    ]
    loss = separated(z, y, tiny.task(2, 2))
    assert loss.item() == pytest.approx(sum(e.item() for e in each) / 5, abs=1e-6)
    assert gradient_in(loss, z).isfinite().all()
