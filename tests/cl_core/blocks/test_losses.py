"""Distillation losses, and defects of others in them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cl_core.blocks.losses import (
    cross_entropy_kd,
    feature_cosine,
    feature_distance,
    feature_l2,
    grouped_kd,
    kd,
    new_only,
    pod,
    relation_distance,
    separated,
)
from tests import tiny
from tests.cl_core.blocks.loss_inputs import LN2, LN3, gradient_in, logits

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
    z, z_old = logits(seed).requires_grad_(), logits(seed + 1)
    expected = temperature * ((z / temperature).softmax(1) - (z_old / temperature).softmax(1)) / len(z)
    assert torch.allclose(gradient_in(kd(z, z_old, temperature), z), expected, atol=1e-6)


@given(seed=st.integers(0, 10_000), temperature=st.floats(1, 8))
@settings(max_examples=25)
def test_cross_entropy_form_and_kl_form_have_one_gradient_up_to_t_squared(
    seed: int, temperature: float
) -> None:
    z, z_old = logits(seed).requires_grad_(), logits(seed + 1)
    form = F.cross_entropy(z / temperature, (z_old / temperature).softmax(1))
    a = gradient_in(kd(z, z_old, temperature), z)
    assert torch.allclose(a, temperature**2 * gradient_in(form, z), atol=1e-5)


def test_kd_and_its_gradient_vanish_where_the_student_is_the_teacher() -> None:
    z = logits(0).requires_grad_()
    loss = kd(z, z.detach().clone(), 2.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(gradient_in(loss, z), torch.zeros_like(z), atol=1e-7)


def test_constants_a_sample_do_not_matter_to_kd() -> None:
    z, z_old, shift = logits(0), logits(1), torch.tensor([[5.0], [-3.0], [0.5], [100.0], [0.0]])
    expected = kd(z, z_old, 2.0)
    assert torch.allclose(kd(z + shift, z_old, 2.0), expected, atol=1e-4)
    assert torch.allclose(kd(z, z_old - shift, 2.0), expected, atol=1e-4)


def test_kd_tends_to_matching_centred_logits() -> None:
    z, z_old = logits(0).double(), logits(1).double()
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
        assert gradient_in(loss, z).isfinite().all()


def test_grouped_kd_is_the_sum_of_the_groups() -> None:
    z, z_old = logits(0), logits(1)
    expected = kd(z[:, :1], z_old[:, :1], 2.0) + kd(z[:, 1:4], z_old[:, 1:4], 2.0)
    assert torch.allclose(grouped_kd(z, z_old, 2.0, ((0, 1), (1, 4))), expected)
    assert torch.equal(grouped_kd(z, z_old, 2.0, ((0, 4),)), kd(z, z_old, 2.0))


def test_a_constant_on_one_group_leaves_grouped_kd_alone_and_changes_joint_kd() -> None:
    z, z_old = logits(0), logits(1)
    moved = z + torch.tensor([0.0, 0.0, 2.0, 2.0])
    groups = ((0, 2), (2, 4))
    assert torch.allclose(grouped_kd(moved, z_old, 2.0, groups), grouped_kd(z, z_old, 2.0, groups), atol=1e-5)
    assert not torch.allclose(kd(moved, z_old, 2.0), kd(z, z_old, 2.0), atol=1e-2)


def test_the_cross_entropy_form_by_hand_and_at_equality_the_teacher_s_entropy() -> None:
    z, z_old = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)  # student (3/4, 1/4), teacher (1/2, 1/2)
    assert cross_entropy_kd(z, z_old, 1.0).item() == pytest.approx(-0.5 * math.log(3 / 16), abs=1e-6)
    assert cross_entropy_kd(2 * z, z_old, 2.0).item() == pytest.approx(-0.5 * math.log(3 / 16), abs=1e-6)
    z_old = z_old.requires_grad_()
    same = cross_entropy_kd(z_old, z_old.detach().clone(), 2.0)
    assert same.item() == pytest.approx(LN2)
    assert torch.allclose(gradient_in(same, z_old), torch.zeros(1, 2), atol=1e-7)


@pytest.mark.parametrize("index", range(6))
def test_losses_of_logits_agree_with_finite_differences(index: int) -> None:
    z, z_old = logits(0).double().requires_grad_(), logits(1).double()
    y, task = torch.tensor([0, 3, 2, 1, 3]), tiny.task(2, 2)
    loss = [
        lambda z: kd(z, z_old, 3.0),
        lambda z: cross_entropy_kd(z, z_old, 3.0),
        lambda z: grouped_kd(z, z_old, 3.0, ((0, 1), (1, 4))),
        lambda z: new_only(z, torch.full((5,), 2), task),
        lambda z: separated(z, y, task),
        lambda z: feature_cosine(z, z_old) + feature_distance(z, z_old),
    ][index]
    assert torch.autograd.gradcheck(loss, (z,))


# Defects of others


def test_defect_inclearn_lwf_sharpens_instead_of_softening() -> None:
    z_old, temperature = logits(0), 2.0
    soft = (z_old / temperature).softmax(1)
    power = z_old.softmax(1) ** (1 / temperature)
    assert torch.allclose(soft, power / power.sum(1, keepdim=True), atol=1e-6)
    z = torch.zeros_like(z_old).requires_grad_()
    uniform = torch.full_like(soft, 0.25)
    gradient = gradient_in(kd(z, z_old, temperature), z) / temperature
    assert torch.allclose(gradient, (uniform - soft) / len(z), atol=1e-6)
    assert soft.max() < z_old.softmax(1).max()


def test_defect_dytox_kl_averaged_over_classes_too() -> None:
    z, z_old = logits(0), logits(1)
    wrong = F.kl_div(z.log_softmax(1), z_old.log_softmax(1), reduction="none", log_target=True).mean()
    assert kd(z, z_old, 1.0).item() == pytest.approx(4 * wrong.item(), rel=1e-5)


def test_defect_ssil_baselines_slices_assume_equal_tasks() -> None:
    # Base of 3, then 1 and 2: the groups follow the task's own sizes.
    task = tiny.task(3, 1, 2)
    assert task.groups == ((0, 3), (3, 4), (4, 6))
    z, z_old = logits(0, classes=6), logits(1, classes=4)
    own = kd(z[:, :3], z_old[:, :3], 2.0)  # a group of one class is constant
    assert torch.allclose(grouped_kd(z, z_old, 2.0, task.groups[:-1]), own, atol=1e-6)


def test_defect_avalanche_bic_softmax_over_the_batch() -> None:
    z, z_old = logits(0), logits(1)
    # Over the batch a constant a sample would matter and one a class would not.
    sample, cls = torch.tensor([[0.0], [9.0], [0.0], [0.0], [0.0]]), torch.tensor([0.0, 9.0, 0.0, 0.0])
    for loss in (kd, cross_entropy_kd):
        expected = loss(z, z_old, 2.0)
        assert torch.allclose(loss(z + sample, z_old, 2.0), expected, atol=1e-5)
        assert (loss(z + cls, z_old, 2.0) - expected).abs() > 0.1


def test_defect_avalanche_feature_distillation_crashes_in_its_mse_mode() -> None:
    f, f_old = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.zeros(1, 2)
    loss = feature_l2(f, f_old)
    assert loss.item() == pytest.approx(2.5)
    assert torch.equal(gradient_in(loss, f), torch.tensor([[1.0, 2.0]]))


def test_defect_hand_written_norms_are_nan_at_equality() -> None:
    f = logits(0).requires_grad_()
    other = f.detach().clone()
    assert gradient_in((f - other).square().sum().sqrt(), f).isnan().all()
    maps = f.view(5, 1, 2, 2)
    for loss in (feature_distance(f, other), relation_distance(f, other), pod((maps,), (maps.detach(),))):
        gradient = gradient_in(loss, f)
        assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)
