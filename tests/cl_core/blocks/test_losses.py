"""The shared losses against hand numbers and the facts that hold for any logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.losses import (
    attention,
    cross_entropy_kd,
    fallback_note,
    feature_cosine,
    feature_distance,
    feature_l2,
    grouped_kd,
    kd,
    logit_l1,
    logit_l2,
    new_only,
    pod,
    relation_angle,
    relation_distance,
    relation_prototype,
    separated,
    unit,
    wide,
)
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


def test_the_cross_entropy_form_by_hand_and_at_equality_the_teacher_s_entropy() -> None:
    z, z_old = torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)  # student (3/4, 1/4), teacher (1/2, 1/2)
    assert cross_entropy_kd(z, z_old, 1.0).item() == pytest.approx(-0.5 * math.log(3 / 16), abs=1e-6)
    assert cross_entropy_kd(2 * z, z_old, 2.0).item() == pytest.approx(-0.5 * math.log(3 / 16), abs=1e-6)
    z_old = z_old.requires_grad_()
    same = cross_entropy_kd(z_old, z_old.detach().clone(), 2.0)
    assert same.item() == pytest.approx(LN2)
    assert torch.allclose(_gradient(same, z_old), torch.zeros(1, 2), atol=1e-7)


@pytest.mark.parametrize("index", range(6))
def test_losses_of_logits_agree_with_finite_differences(index: int) -> None:
    z, z_old = _logits(0).double().requires_grad_(), _logits(1).double()
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


# Logits and features


def test_logit_and_feature_distances_are_means_over_all_entries() -> None:
    z, z_old = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert logit_l2(z, z_old).item() == pytest.approx(14 / 4)
    assert logit_l1(z, z_old).item() == pytest.approx(6 / 4)
    assert feature_l2(z, z_old).item() == pytest.approx(14 / 4)


def test_the_gradient_of_logit_l1_has_one_size_and_is_zero_at_equality() -> None:
    z = torch.tensor([[1.0, -200.0], [0.0, 1e-3]], requires_grad=True)
    gradient = _gradient(logit_l1(z, torch.zeros(2, 2)), z)
    assert torch.equal(gradient, torch.tensor([[0.25, -0.25], [0.0, 0.25]]))


def test_feature_distance_is_the_unaveraged_norm_of_the_whole_batch() -> None:
    f, f_old = torch.tensor([[3.0, 1.0], [1.0, 4.0]]), torch.ones(2, 2)
    assert feature_distance(f, f_old).item() == pytest.approx(math.sqrt(4 + 9))
    # The value grows with the square root of the batch.
    assert feature_distance(f.repeat(4, 1), f_old.repeat(4, 1)).item() == pytest.approx(2 * math.sqrt(13))


@pytest.mark.parametrize("gap", [1e-3, 1.0, 1e3])
def test_the_gradient_of_feature_distance_has_norm_one_however_far_the_features_are(gap: float) -> None:
    f = _logits(0).requires_grad_()
    gradient = _gradient(feature_distance(f, f.detach() + gap), f)
    assert torch.linalg.vector_norm(gradient).item() == pytest.approx(1, abs=1e-5)


def test_feature_cosine_by_hand() -> None:
    f, f_old = torch.tensor([[5.0, 0.0], [0.0, 0.1]]), torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    assert feature_cosine(f, f_old).item() == pytest.approx((1 + 1 - math.sqrt(0.5)) / 2, abs=1e-6)
    assert feature_cosine(f, -f).item() == pytest.approx(2, abs=1e-6)
    assert feature_cosine(torch.zeros(1, 2), f_old[:1]).item() == 1.0


def test_unit_vectors_and_width() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.bfloat16)
    assert torch.allclose(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert [wide(x.to(t)).dtype for t in (torch.float16, torch.float32, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]


# Maps


def test_pod_pools_squares_by_sums_and_normalises_height_and_width_together() -> None:
    # One map of one row: squares (4, 1), summed over the width 5, over the height (4, 1).
    a, a_old = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    cosine = (5 * 1 + 4 * 0 + 1 * 1) / math.sqrt(42 * 2)
    expected = math.sqrt(2 - 2 * cosine)
    assert pod((a,), (a_old,)).item() == pytest.approx(expected, abs=1e-6)
    # A mean over maps and over the batch.
    assert pod((a, a_old), (a_old, a_old)).item() == pytest.approx(expected / 2, abs=1e-6)
    both, both_old = torch.cat([a, a_old]), torch.cat([a_old, a_old])
    assert pod((both,), (both_old,)).item() == pytest.approx(expected / 2, abs=1e-6)


def test_pod_keeps_channels_apart_and_attention_adds_them() -> None:
    a = torch.tensor([[[[1.0]], [[0.0]]]])  # two channels of one pixel
    assert pod((a,), (a.flip(1),)).item() == pytest.approx(math.sqrt(2), abs=1e-6)
    assert attention((a,), (a.flip(1),)).item() == 0


def test_attention_by_hand() -> None:
    # Squares (4, 1) against (0, 1): 2 - 2 cos.
    a, a_old = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    expected = 2 - 2 / math.sqrt(17)
    assert attention((a,), (a_old,)).item() == pytest.approx(expected, abs=1e-6)
    assert attention((a, a_old), (a_old, a_old)).item() == pytest.approx(expected / 2, abs=1e-6)


@pytest.mark.parametrize("loss", [pod, attention])
def test_another_number_of_maps_is_no_silent_match(loss: Any) -> None:
    a = torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match="zip"):
        loss((a, a), (a,))


# Relations


def test_relation_distance_by_hand() -> None:
    f, f_old = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    # Distances over their mean: 1, 3, 2 over 2 against 1, 2, 1 over 4/3: apart by 1/4, 0, 1/4.
    expected = (0.5 * 0.0625 + 0 + 0.5 * 0.0625) / 3
    assert relation_distance(f, f_old).item() == pytest.approx(expected, abs=1e-7)


def test_relation_distance_is_huber_and_not_a_square() -> None:
    # 2 clusters far apart against all equal distances: 4 of 6 pairs at 3/2, 2 at 0 in the first.
    f = torch.tensor([[0.0], [0.0], [30.0], [30.0]])
    f_old = torch.eye(4)
    # apart by 1/2 (4 pairs), by 1 (2 pairs)
    assert relation_distance(f, f_old).item() == pytest.approx((4 * 0.125 + 2 * 0.5) / 6, abs=1e-6)
    far = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]])  # 4 of 10 pairs at 5/2, apart by 3/2
    expected = (4 * (1.5 - 0.5) + 6 * 0.5) / 10
    assert relation_distance(far, torch.eye(5)).item() == pytest.approx(expected, abs=1e-6)


def test_the_mean_distance_counts_samples_that_fell_together() -> None:
    # The official code takes the mean over positive distances alone: a selection whose size the data decide.
    f = torch.tensor([[0.0], [0.0], [2.0]])
    distances = torch.tensor([0.0, 2.0, 2.0]) / (4 / 3)
    expected = F.smooth_l1_loss(distances, torch.ones(3)).item()
    assert relation_distance(f, torch.eye(3)).item() == pytest.approx(expected, abs=1e-6)


def test_relation_angle_by_hand() -> None:
    right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cosines 0, 1/sqrt 2 twice
    equal = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])  # 1/2 three times
    expected = (0.5 * 0.25 + 2 * 0.5 * (math.sqrt(0.5) - 0.5) ** 2) / 3
    assert relation_angle(right, equal).item() == pytest.approx(expected, abs=1e-6)


def test_relation_prototype_has_its_softmax_over_the_samples() -> None:
    f, p = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0]])
    # Cosines (1, 0) against (0, 1): KL of (1, e)/(1 + e) and its mirror image is (e - 1)/(e + 1).
    expected = (math.e - 1) / (math.e + 1)
    assert relation_prototype(f, p, f.flip(0), p, 1.0).item() == pytest.approx(expected, abs=1e-6)
    # A second prototype in between ranks both alike: it halves the mean over prototypes.
    both = torch.cat([p, torch.ones(1, 2)])
    assert relation_prototype(f, both, f.flip(0), both, 1.0).item() == pytest.approx(expected / 2, abs=1e-6)


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


def test_defect_avalanche_bic_softmax_over_the_batch() -> None:
    z, z_old = _logits(0), _logits(1)
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
    assert torch.equal(_gradient(loss, f), torch.tensor([[1.0, 2.0]]))


def test_defect_hand_written_norms_are_nan_at_equality() -> None:
    f = _logits(0).requires_grad_()
    other = f.detach().clone()
    assert _gradient((f - other).square().sum().sqrt(), f).isnan().all()
    maps = f.view(5, 1, 2, 2)
    for loss in (feature_distance(f, other), relation_distance(f, other), pod((maps,), (maps.detach(),))):
        gradient = _gradient(loss, f)
        assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)


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
