"""LwM's attention maps: their distance, and the class that they are of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.methods.lwm import attention_distance, class_map
from cl_core.task import Batch
from tests import tiny
from tests.cl_core.methods.lwm_inputs import (
    TASK,
    Given,
    LwM,
    attention_term,
    generator,
    given_batch,
    given_state,
    pair_of_nets,
    small_net,
)

# Maps and their distance


def test_a_map_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])  # one sample, two channels of 1x2
    assert class_map(maps, torch.tensor([[2.0, -1.0]])).tolist() == [[0.0, 3.0]]
    assert class_map(maps.bfloat16(), torch.tensor([[2.0, -1.0]])).dtype == torch.float32


def test_the_distance_by_hand() -> None:
    q, q_old = torch.tensor([[0.0, 3.0], [3.0, 4.0]]), torch.tensor([[5.0, 0.0], [8.0, 6.0]])
    distance, dead = attention_distance(q, q_old)
    # |(0, 1) - (1, 0)| = 2 and |(0.6, 0.8) - (0.8, 0.6)| = 0.4; their mean
    assert distance.item() == pytest.approx(1.2)
    assert dead.item() == 0.0


def test_the_map_is_grad_cam_s_where_features_are_the_average() -> None:
    net = small_net(0, 5)
    out = net(given_batch().x)
    maps = out.maps[-1]
    top = out.logits[:, :3].argmax(1)
    (by_maps,) = torch.autograd.grad(out.logits.gather(1, top[:, None]).sum(), maps)
    alpha = by_maps.mean(dim=(2, 3))
    positions = maps.shape[2] * maps.shape[3]
    weight = net.head.weight[top]  # type: ignore[index]
    assert torch.allclose(alpha, weight / positions, atol=1e-7)
    cam = (alpha[:, :, None, None] * maps).sum(1).relu().flatten(1)
    assert torch.allclose(cam, class_map(maps, weight) / positions, atol=1e-6)
    assert cam.any()


def test_the_attention_term_against_finite_differences() -> None:
    maps = torch.randn(3, 4, 2, 2, generator=generator(0)).double().requires_grad_()
    weight = torch.randn(3, 4, generator=generator(1)).double().requires_grad_()
    q_old = torch.rand(3, 4, generator=generator(2)).double()

    def value(maps: Tensor, weight: Tensor) -> Tensor:
        return attention_distance(class_map(maps, weight), q_old)[0]

    assert (class_map(maps, weight) > 0).any(dim=1).all()
    assert torch.autograd.gradcheck(value, (maps, weight))


def test_the_distance_is_at_most_twice_the_root_of_half_the_positions() -> None:
    # Maps on two disjoint halves, spread evenly over each.
    q = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert attention_distance(q, 1.0 - q)[0].item() == pytest.approx(2 * math.sqrt(4 / 2))


def test_it_is_zero_with_zero_gradient_where_student_and_teacher_agree() -> None:
    state = pair_of_nets(0, 0)
    value = attention_term(state, given_batch())
    gradients = torch.autograd.grad(value, list(state.net.parameters()), allow_unused=True)
    assert value.item() == 0.0
    assert any(g is not None for g in gradients)
    assert not any(g.any() for g in gradients if g is not None)


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_scaling_a_head_changes_nothing(which: str) -> None:
    state, b = pair_of_nets(), given_batch()
    before = attention_term(state, b)
    head = state.head if which == "student" else state.teacher.net.head  # type: ignore[union-attr]
    with torch.no_grad():
        for rows in (head.weight, head.bias):
            rows.mul_(7.0)  # type: ignore[operator]
    assert before > 0.1
    assert attention_term(state, b).item() == pytest.approx(before.item(), rel=1e-5)


def test_a_map_of_zeros_counts_nothing_and_the_divisor_stays_the_batch() -> None:
    q = torch.tensor([[0.0, 0.0], [0.0, 3.0], [1.0, 1.0]], requires_grad=True)
    q_old = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
    distance, dead = attention_distance(q, q_old)
    assert distance.item() == pytest.approx(2 / 3)
    assert dead.item() == pytest.approx(2 / 3)
    (gradient,) = torch.autograd.grad(distance, q)
    assert gradient.isfinite().all()
    assert not gradient[0].any()
    assert not gradient[2].any()


def test_a_batch_of_dead_maps_is_finite_and_recorded() -> None:
    weight = [[-1.0, -1.0], [-2.0, -1.0], [-1.0, -3.0], [1.0, 0.0], [0.0, 1.0]]
    maps = torch.rand(2, 2, 2, 2, generator=generator(0)) + 0.1
    student = Given(maps, weight)
    state = given_state(student, Given(maps + 1, weight[:3]))
    terms = LwM({}).loss(state, given_batch(2), TASK)
    assert terms["attention"].value.item() == 0.0
    assert terms["dead_maps"].value.item() == 1.0
    assert terms["dead_maps"].weight == 0.0
    (gradient,) = torch.autograd.grad(terms["attention"].value, student.maps)
    assert not gradient.any()


# Which class


def test_the_class_is_the_student_s_top_old_one_for_both_maps() -> None:
    # Position 0 shows in channel 0, position 1 in channel 1. Classes: 0 reads channel 0, 1 reads channel 1,
    # 2 is new and has the largest score of all.
    head = [[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]
    student = Given(torch.tensor([[[[3.0, 1.0]], [[0.0, 1.0]]]]), head)  # top old class 0
    teacher = Given(torch.tensor([[[[1.0, 1.0]], [[4.0, 3.0]]]]), head[:2])  # top class 1
    s, b, task = (
        given_state(student, teacher),
        Batch(torch.zeros(1, 3, 8, 8), torch.tensor([2])),
        tiny.task(2, 1),
    )

    def distance(a: list[float], c: list[float]) -> float:
        return (F.normalize(torch.tensor(a), dim=0) - F.normalize(torch.tensor(c), dim=0)).abs().sum().item()

    by_student, by_teacher = distance([3.0, 1.0], [1.0, 1.0]), distance([0.0, 1.0], [4.0, 3.0])
    assert by_student != pytest.approx(by_teacher)
    assert attention_term(s, b, task=task).item() == pytest.approx(by_student)
    other = attention_term(s, b, {"attention_class": "teacher_top"}, task)
    assert other.item() == pytest.approx(by_teacher)


def test_the_class_is_never_a_new_one() -> None:
    state, b = pair_of_nets(), given_batch()
    before = attention_term(state, b)
    with torch.no_grad():
        state.head.bias[3:] = 100.0  # every new logit is the largest
    value = attention_term(state, b)
    assert torch.equal(value, before)
    (gradient,) = torch.autograd.grad(value, state.head.weight)
    assert gradient[:3].any()
    assert not gradient[3:].any()
