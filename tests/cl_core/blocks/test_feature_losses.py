"""Distances of logits, features, maps and relations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.losses import (
    attention,
    feature_cosine,
    feature_distance,
    feature_l2,
    logit_l1,
    logit_l2,
    pod,
    relation_angle,
    relation_distance,
    relation_prototype,
    unit,
    wide,
)
from tests.cl_core.blocks.loss_inputs import gradient_in, logits

# Logits and features


def test_logit_and_feature_distances_are_means_over_all_entries() -> None:
    z, z_old = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert logit_l2(z, z_old).item() == pytest.approx(14 / 4)
    assert logit_l1(z, z_old).item() == pytest.approx(6 / 4)
    assert feature_l2(z, z_old).item() == pytest.approx(14 / 4)


def test_the_gradient_of_logit_l1_has_one_size_and_is_zero_at_equality() -> None:
    z = torch.tensor([[1.0, -200.0], [0.0, 1e-3]], requires_grad=True)
    gradient = gradient_in(logit_l1(z, torch.zeros(2, 2)), z)
    assert torch.equal(gradient, torch.tensor([[0.25, -0.25], [0.0, 0.25]]))


def test_feature_distance_is_the_unaveraged_norm_of_the_whole_batch() -> None:
    f, f_old = torch.tensor([[3.0, 1.0], [1.0, 4.0]]), torch.ones(2, 2)
    assert feature_distance(f, f_old).item() == pytest.approx(math.sqrt(4 + 9))
    # The value grows with the square root of the batch.
    assert feature_distance(f.repeat(4, 1), f_old.repeat(4, 1)).item() == pytest.approx(2 * math.sqrt(13))


@pytest.mark.parametrize("gap", [1e-3, 1.0, 1e3])
def test_the_gradient_of_feature_distance_has_norm_one_however_far_the_features_are(gap: float) -> None:
    f = logits(0).requires_grad_()
    gradient = gradient_in(feature_distance(f, f.detach() + gap), f)
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
