"""LwM: what trains, the other terms, and defects of others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.losses import kd
from cl_core.methods.lwm import attention_distance, class_map
from cl_core.nets.network import Network
from cl_core.task import Batch, Out
from tests import tiny
from tests.cl_core.methods.lwm_inputs import TASK, LwM, attention_term, generator, given_batch, pair_of_nets

# What trains


def test_facil_lwm_detached_attention_is_not_ours() -> None:
    state = pair_of_nets()
    value = attention_term(state, given_batch())
    convolutions = [m.weight for m in state.net.modules() if isinstance(m, nn.Conv2d)]
    assert value > 0.1
    assert len(convolutions) == 3
    for gradient in torch.autograd.grad(value, convolutions):
        assert gradient.abs().max() > 1e-4
    light, heavy = (tiny.run("lwm", {"attention_weight": w}).results for w in (0.001, 10.0))
    assert light[0].network == heavy[0].network
    assert light[1].network != heavy[1].network


def test_the_class_row_trains_or_not_and_the_backbone_s_gradient_is_the_same() -> None:
    state, b = pair_of_nets(), given_batch()
    backbone = list(state.net.backbone.parameters())
    through = torch.autograd.grad(attention_term(state, b), [*backbone, state.head.weight])
    value = attention_term(state, b, {"diff_through_alpha": False})
    fixed = torch.autograd.grad(value, [*backbone, state.head.weight], allow_unused=True)
    assert fixed[-1] is None
    assert through[-1][:3].any()
    assert all(torch.equal(a, c) for a, c in zip(through[:-1], fixed[:-1], strict=True))


def test_a_few_steps_bring_the_maps_together() -> None:
    state, b = pair_of_nets(), given_batch()
    optimizer = torch.optim.SGD(state.net.parameters(), lr=0.001)
    before = LwM({}).loss(state, b, TASK)
    for _ in range(30):
        optimizer.zero_grad()
        attention_term(state, b).backward()
        optimizer.step()
    after = LwM({}).loss(state, b, TASK)
    assert after["attention"].value < 0.5 * before["attention"].value
    assert before["dead_maps"].value == after["dead_maps"].value == 0.0  # not by dying


# Defects of the field


def test_inclearn_lwm_missing_channel_sum_is_not_ours() -> None:
    # Channels that cancel: per channel ReLU(A_1) stays, the sum is what a class map shows.
    maps = torch.tensor([[[[1.0, 2.0]], [[-1.0, 1.0]]]])
    summed = class_map(maps, torch.ones(1, 2))
    assert summed.shape == (1, 2)
    assert summed.tolist() == [[0.0, 3.0]]


def test_kd_zoo_lwm_map_of_gradients_is_not_ours() -> None:
    # Weights times gradients would be constant over the positions, whatever the activations.
    weight = torch.tensor([[1.0, 2.0]])
    a, c = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 3)
    a[0, 0, 0, 0], c[0, 0, 0, 2] = 1.0, 1.0
    assert class_map(a, weight).tolist() == [[1.0, 0.0, 0.0]]
    assert class_map(c, weight).tolist() == [[0.0, 0.0, 1.0]]


def test_facil_lwm_batch_by_batch_index_is_not_ours() -> None:
    # Every sample by a class of its own: the batch's value is the mean of the samples'.
    state, b = pair_of_nets(), given_batch()
    with torch.no_grad():  # so that no class leads for all
        state.head.bias[:5] -= state.net(b.x).logits.mean(dim=0)
    assert len(state.net(b.x).logits[:, :3].argmax(1).unique()) == 3
    each = [attention_term(state, Batch(x[None], y[None])) for x, y in zip(b.x, b.y, strict=True)]
    assert attention_term(state, b).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


def test_facil_lwm_unnormalised_map_is_not_ours() -> None:
    state, b = pair_of_nets(), given_batch()
    before = attention_term(state, b)
    q, q_old = torch.rand(4, 9, generator=generator(0)), torch.rand(4, 9, generator=generator(1))
    assert torch.allclose(attention_distance(q, q_old)[0], attention_distance(5 * q, q_old / 5)[0])
    assert 0 < before <= 2 * math.sqrt(4 / 2)  # maps of 2x2


def test_inclearn_lwm_power_of_the_temperature_is_not_ours() -> None:
    z, z_old = torch.tensor([[2.0, 0.0, 1.0, 5.0]]), torch.tensor([[0.0, 4.0, 1.0]])
    terms = LwM({"distill": False, "temperature": 4.0}).loss(
        tiny.fixed_state(z, z_old), Batch(torch.zeros(1, 3, 8, 8), torch.tensor([3])), tiny.task(3, 1)
    )
    p, q = (z[:, :3] / 4).softmax(1), (z_old / 4).softmax(1)
    assert q.max() < z_old.softmax(1).max()  # softer, not sharper
    assert terms["kd"].value.item() == pytest.approx(16 * (q * (q / p).log()).sum().item(), rel=1e-5)


# The other terms


def test_the_first_task_is_plain() -> None:
    state = pair_of_nets()
    state.teacher = None
    b = Batch(given_batch().x, torch.arange(6) % 5)
    for hp in ({}, {"attention_weight": 10.0, "kd_weight": 8.0, "logit_loss": "sigmoid"}):
        terms = LwM(hp).loss(state, b, tiny.task(5))
        assert list(terms) == ["ce"]
        assert torch.equal(terms["ce"].value, F.cross_entropy(state.net(b.x).logits, b.y))
    assert tiny.run("lwm").results[0].network == tiny.run("finetune").results[0].network


def test_the_terms_and_their_weights() -> None:
    state, b = pair_of_nets(), given_batch()
    terms = LwM({"kd_weight": 0.5, "attention_weight": 3.0, "temperature": 3.0}).loss(state, b, TASK)
    z, z_old = state.net(b.x).logits, state.teacher(b.x).logits  # type: ignore[misc]
    assert {name: term.weight for name, term in terms.items()} == {
        "ce": 1.0,
        "kd": 0.5,
        "attention": 3.0,
        "dead_maps": 0.0,
    }
    assert torch.equal(terms["ce"].value, F.cross_entropy(z[:, 3:], b.y - 3))
    assert torch.equal(terms["kd"].value, kd(z[:, :3], z_old, 3.0))
    every = LwM({"ce_scope": "all_seen"}).loss(state, b, TASK)["ce"].value
    assert torch.equal(every, F.cross_entropy(z, b.y))


def test_without_attention_it_is_lwf_bit_for_bit() -> None:
    ours, lwf = tiny.run("lwm", {"distill": False}), tiny.run("lwf")
    for a, c in zip(ours.states, lwf.states, strict=True):
        assert a.keys() == c.keys()
        assert all(torch.equal(a[name], c[name]) for name in a)
    assert {p.term for p in ours.results[1].phases} == {"ce", "kd"}
    assert tiny.run("lwm").results[1].network != lwf.results[1].network


def test_sigmoid_distillation_by_hand() -> None:
    z = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], requires_grad=True)
    z_old = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    method = LwM({"distill": False, "logit_loss": "sigmoid"})
    b = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([2, 2]))
    value = method.loss(tiny.fixed_state(z, z_old), b, tiny.task(2, 1))["kd"].value

    def sigma(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    def bce(a: float, c: float) -> float:
        return -(sigma(c) * math.log(sigma(a)) + (1 - sigma(c)) * math.log(1 - sigma(a)))

    # A sum over the old outputs, a mean over the batch.
    assert value.item() == pytest.approx((bce(0, 0) + bce(1, 2) + bce(1, -1) + bce(0, 0)) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient[0, 1].item() == pytest.approx((sigma(1) - sigma(2)) / 2, rel=1e-5)
    assert not gradient[:, 2].any()


def test_teacher_and_student_see_one_view_in_one_forward_each(monkeypatch: pytest.MonkeyPatch) -> None:
    state, b = pair_of_nets(), given_batch()
    asked: list[tuple[bool, Tensor]] = []
    forward = Network.forward

    def noted(self: Network, x: Tensor) -> Out:
        asked.append((self is state.net, x))
        return forward(self, x)

    monkeypatch.setattr(Network, "forward", noted)
    state.net.train()
    LwM({}).loss(state, b, TASK)
    assert [student for student, _ in asked] == [True, False]
    assert all(x is b.x for _, x in asked)


def test_the_share_of_dead_maps_is_recorded_and_weighs_nothing() -> None:
    for result in tiny.run("lwm").results[1:]:
        dead = [p for p in result.phases if p.term == "dead_maps"]
        assert len(dead) == tiny.RECIPE["epochs"]
        assert all(p.weight == 0.0 and 0.0 <= p.value < 1.0 for p in dead)
        assert all(p.value > 0.01 for p in result.phases if p.term == "attention")
