"""The shared losses against hand numbers and the facts that hold for any logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cl_core.losses import fallback_note, grouped_kd, kd, new_only, separated
from tests import tiny

LN2, LN3 = math.log(2), math.log(3)


def _logits(seed: int, rows: int = 5, classes: int = 4) -> Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def _gradient(loss: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(loss, z)[0]


# Distillation


def test_kd_of_a_hand_made_pair() -> None:
    # Teacher (1/2, 1/2), student (3/4, 1/4): KL = 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3).
    z, z_old = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)
    assert kd(z, z_old, 1.0).item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-6)
    assert kd(2 * z, z_old, 2.0).item() == pytest.approx(4 * 0.5 * math.log(4 / 3), abs=1e-6)


def test_kd_is_the_mean_over_the_batch_and_not_over_classes() -> None:
    z, z_old = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)
    assert kd(z.repeat(6, 1), z_old.repeat(6, 1), 1.0).item() == pytest.approx(kd(z, z_old, 1.0).item())
    other = torch.zeros(1, 2)  # equal to the teacher: adds nothing, halves the mean
    both = kd(torch.cat([z, other]), torch.cat([z_old, z_old]), 1.0)
    assert both.item() == pytest.approx(kd(z, z_old, 1.0).item() / 2, abs=1e-7)


@given(seed=st.integers(0, 10_000), temperature=st.floats(1, 8))
@settings(max_examples=25)
def test_the_gradient_of_kd_is_t_times_the_difference_of_probabilities(seed: int, temperature: float) -> None:
    z, z_old = _logits(seed).requires_grad_(), _logits(seed + 1)
    expected = temperature * ((z / temperature).softmax(1) - (z_old / temperature).softmax(1)) / len(z)
    assert torch.allclose(_gradient(kd(z, z_old, temperature), z), expected, atol=1e-6)


@given(seed=st.integers(0, 10_000), temperature=st.floats(1, 8))
@settings(max_examples=25)
def test_cross_entropy_form_and_kl_form_have_one_gradient_up_to_t_squared(
    seed: int, temperature: float
) -> None:
    z, z_old = _logits(seed).requires_grad_(), _logits(seed + 1)
    form = F.cross_entropy(z / temperature, (z_old / temperature).softmax(1))
    a = _gradient(kd(z, z_old, temperature), z)
    assert torch.allclose(a, temperature**2 * _gradient(form, z), atol=1e-5)


def test_kd_and_its_gradient_vanish_where_the_student_is_the_teacher() -> None:
    z = _logits(0).requires_grad_()
    loss = kd(z, z.detach().clone(), 2.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(_gradient(loss, z), torch.zeros_like(z), atol=1e-7)


def test_constants_a_sample_do_not_matter_to_kd() -> None:
    z, z_old, shift = _logits(0), _logits(1), torch.tensor([[5.0], [-3.0], [0.5], [100.0], [0.0]])
    expected = kd(z, z_old, 2.0)
    assert torch.allclose(kd(z + shift, z_old, 2.0), expected, atol=1e-4)
    assert torch.allclose(kd(z, z_old - shift, 2.0), expected, atol=1e-4)


def test_kd_tends_to_matching_centred_logits() -> None:
    z, z_old = _logits(0).double(), _logits(1).double()
    centred = (z - z.mean(1, keepdim=True)) - (z_old - z_old.mean(1, keepdim=True))
    expected = centred.square().sum(1).mean() / (2 * z.shape[1])
    assert kd(z, z_old, 300.0).item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_are_finite_for_huge_logits(dtype: torch.dtype) -> None:
    z = torch.tensor([[1e3, -1e3, 0.0, 1e3]], dtype=dtype, requires_grad=True)
    z_old = torch.tensor([[-1e3, 1e3, 1e3, 0.0]], dtype=dtype)
    y = torch.tensor([1])
    task = tiny.task(2, 2)
    for loss in (kd(z, z_old, 2.0), separated(z.float(), y, task), new_only(z.float(), y + 2, task)):
        assert loss.isfinite()
        assert _gradient(loss, z).isfinite().all()


def test_grouped_kd_is_the_sum_of_the_groups() -> None:
    z, z_old = _logits(0), _logits(1)
    expected = kd(z[:, :1], z_old[:, :1], 2.0) + kd(z[:, 1:4], z_old[:, 1:4], 2.0)
    assert torch.allclose(grouped_kd(z, z_old, 2.0, ((0, 1), (1, 4))), expected)
    assert torch.equal(grouped_kd(z, z_old, 2.0, ((0, 4),)), kd(z, z_old, 2.0))


def test_a_constant_on_one_group_leaves_grouped_kd_alone_and_changes_joint_kd() -> None:
    z, z_old = _logits(0), _logits(1)
    moved = z + torch.tensor([0.0, 0.0, 2.0, 2.0])
    groups = ((0, 2), (2, 4))
    assert torch.allclose(grouped_kd(moved, z_old, 2.0, groups), grouped_kd(z, z_old, 2.0, groups), atol=1e-5)
    assert not torch.allclose(kd(moved, z_old, 2.0), kd(z, z_old, 2.0), atol=1e-2)


# Defects of others


def test_defect_inclearn_lwf_sharpens_instead_of_softening() -> None:
    z_old, temperature = _logits(0), 2.0
    soft = (z_old / temperature).softmax(1)
    power = z_old.softmax(1) ** (1 / temperature)
    assert torch.allclose(soft, power / power.sum(1, keepdim=True), atol=1e-6)
    z = torch.zeros_like(z_old).requires_grad_()
    uniform = torch.full_like(soft, 0.25)
    gradient = _gradient(kd(z, z_old, temperature), z) / temperature
    assert torch.allclose(gradient, (uniform - soft) / len(z), atol=1e-6)
    assert soft.max() < z_old.softmax(1).max()


def test_defect_dytox_kl_averaged_over_classes_too() -> None:
    z, z_old = _logits(0), _logits(1)
    wrong = F.kl_div(z.log_softmax(1), z_old.log_softmax(1), reduction="none", log_target=True).mean()
    assert kd(z, z_old, 1.0).item() == pytest.approx(4 * wrong.item(), rel=1e-5)


def test_defect_ssil_baselines_slices_assume_equal_tasks() -> None:
    # Base of 3, then 1 and 2: the groups follow the task's own sizes.
    task = tiny.task(3, 1, 2)
    assert task.groups == ((0, 3), (3, 4), (4, 6))
    z, z_old = _logits(0, classes=6), _logits(1, classes=4)
    own = kd(z[:, :3], z_old[:, :3], 2.0)  # a group of one class is constant
    assert torch.allclose(grouped_kd(z, z_old, 2.0, task.groups[:-1]), own, atol=1e-6)


# Cross-entropy over the new classes


def test_new_only_by_hand_and_without_gradient_on_old_logits() -> None:
    z = torch.tensor([[9.0, -9.0, LN3, 0.0]], requires_grad=True)
    loss = new_only(z, torch.tensor([2]), tiny.task(2, 2))
    assert loss.item() == pytest.approx(math.log(4 / 3), abs=1e-6)  # softmax (3/4, 1/4)
    gradient = _gradient(loss, z)
    assert torch.equal(gradient[:, :2], torch.zeros(1, 2))
    assert torch.allclose(gradient[:, 2:], torch.tensor([[-0.25, 0.25]]), atol=1e-6)


def test_on_the_first_task_new_only_is_plain_cross_entropy_bit_for_bit() -> None:
    z, y = _logits(0), torch.tensor([0, 1, 2, 3, 0])
    assert torch.equal(new_only(z, y, tiny.task(4)), F.cross_entropy(z, y))
    assert torch.equal(separated(z, y, tiny.task(4)), F.cross_entropy(z, y))


def test_defect_pycil_new_only_learns_nothing_from_one_new_class() -> None:
    z, y = _logits(0).requires_grad_(), torch.full((5,), 3)
    constant = F.cross_entropy(z[:, 3:], y - 3)
    assert constant.item() == 0
    task = tiny.task(3, 1)
    for loss in (new_only(z, y, task), separated(z, y, task)):
        assert torch.equal(loss, F.cross_entropy(z, y))
        assert _gradient(loss, z).abs().max() > 0.01
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
    z = _logits(0).requires_grad_()
    y = torch.tensor([0, 3, 2, 1, 3])
    gradient = _gradient(separated(z, y, tiny.task(2, 2)), z)
    is_new = y >= 2
    assert not gradient[is_new][:, :2].any()
    assert not gradient[~is_new][:, 2:].any()
    assert gradient[is_new][:, 2:].any()
    assert gradient[~is_new][:, :2].any()


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [2, 3, 3, 2, 3], [0, 3, 1, 2, 0]])
def test_separated_softmax_averages_over_all_samples(labels: list[int]) -> None:
    z, y = _logits(0).requires_grad_(), torch.tensor(labels)
    each = [
        F.cross_entropy(z[i, 2:][None], y[i : i + 1] - 2)
        if y[i] >= 2
        else F.cross_entropy(z[i, :2][None], y[i : i + 1])
        for i in range(5)
    ]
    loss = separated(z, y, tiny.task(2, 2))
    assert loss.item() == pytest.approx(sum(e.item() for e in each) / 5, abs=1e-6)
    assert _gradient(loss, z).isfinite().all()
