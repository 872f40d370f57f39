"""Learning without Memorizing: maps by hand and by autograd, the attention term, what it asks of a net."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.losses import kd
from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.methods.lwm import attention_distance, class_map
from cl_core.nets.network import NETS, Frozen, LinearHead, Network, build_network
from cl_core.state import State
from cl_core.task import Batch, Out
from cl_core.training.checks import check
from cl_core.training.trainer import Training
from tests import tiny

LwM = METHODS["lwm"]
TASK = tiny.task(3, 2)


def _g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _net(seed: int, seen: int) -> Network:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, seed)
    net.head.open(0, seen, _g(seed))  # type: ignore[operator]
    with torch.no_grad():  # a trained net's classes see something; a random head's maps are mostly dead
        net.head.weight[:seen] = 4 * net.head.weight[:seen] + 0.3  # type: ignore[index, operator]
    return net.eval()


def _pair(student: int = 0, teacher: int = 1) -> State:
    """A student of 5 classes and a teacher of 3, both in evaluation mode."""
    net = _net(student, 5)
    state = State(net, lambda: net, ())
    state.teacher = Frozen(_net(teacher, 3))
    return state


def _batch(rows: int = 6) -> Batch:
    return Batch(torch.randn(rows, 3, 8, 8, generator=_g(9)), 3 + torch.arange(rows) % 2)


class _Given(nn.Module):
    """A network that answers with given maps, through a head without bias."""

    def __init__(self, maps: Tensor, weight: list[list[float]]) -> None:
        super().__init__()
        self.maps = nn.Parameter(maps)
        self.head = LinearHead(len(weight[0]), len(weight))
        self.head.seen = len(weight)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(weight))

    def forward(self, x: Tensor) -> Out:
        features = self.maps.mean(dim=(2, 3))
        return Out(features, self.head(features), (self.maps,))


def _given(student: _Given, teacher: _Given) -> State:
    state = State(student, lambda: student, ())  # type: ignore[arg-type, return-value]
    state.teacher = Frozen(teacher)  # type: ignore[arg-type]
    return state


def _attention(s: State, b: Batch, hp: dict[str, Any] | None = None, task: Any = TASK) -> Tensor:
    return LwM(hp or {}).loss(s, b, task)["attention"].value


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
    net = _net(0, 5)
    out = net(_batch().x)
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
    maps = torch.randn(3, 4, 2, 2, generator=_g(0)).double().requires_grad_()
    weight = torch.randn(3, 4, generator=_g(1)).double().requires_grad_()
    q_old = torch.rand(3, 4, generator=_g(2)).double()

    def value(maps: Tensor, weight: Tensor) -> Tensor:
        return attention_distance(class_map(maps, weight), q_old)[0]

    assert (class_map(maps, weight) > 0).any(dim=1).all()
    assert torch.autograd.gradcheck(value, (maps, weight))


def test_the_distance_is_at_most_twice_the_root_of_half_the_positions() -> None:
    # Maps on two disjoint halves, spread evenly over each.
    q = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert attention_distance(q, 1.0 - q)[0].item() == pytest.approx(2 * math.sqrt(4 / 2))


def test_it_is_zero_with_zero_gradient_where_student_and_teacher_agree() -> None:
    state = _pair(0, 0)
    value = _attention(state, _batch())
    gradients = torch.autograd.grad(value, list(state.net.parameters()), allow_unused=True)
    assert value.item() == 0.0
    assert any(g is not None for g in gradients)
    assert not any(g.any() for g in gradients if g is not None)


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_scaling_a_head_changes_nothing(which: str) -> None:
    state, b = _pair(), _batch()
    before = _attention(state, b)
    head = state.head if which == "student" else state.teacher.net.head  # type: ignore[union-attr]
    with torch.no_grad():
        for rows in (head.weight, head.bias):
            rows.mul_(7.0)  # type: ignore[operator]
    assert before > 0.1
    assert _attention(state, b).item() == pytest.approx(before.item(), rel=1e-5)


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
    maps = torch.rand(2, 2, 2, 2, generator=_g(0)) + 0.1
    student = _Given(maps, weight)
    state = _given(student, _Given(maps + 1, weight[:3]))
    terms = LwM({}).loss(state, _batch(2), TASK)
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
    student = _Given(torch.tensor([[[[3.0, 1.0]], [[0.0, 1.0]]]]), head)  # top old class 0
    teacher = _Given(torch.tensor([[[[1.0, 1.0]], [[4.0, 3.0]]]]), head[:2])  # top class 1
    s, b, task = _given(student, teacher), Batch(torch.zeros(1, 3, 8, 8), torch.tensor([2])), tiny.task(2, 1)

    def distance(a: list[float], c: list[float]) -> float:
        return (F.normalize(torch.tensor(a), dim=0) - F.normalize(torch.tensor(c), dim=0)).abs().sum().item()

    by_student, by_teacher = distance([3.0, 1.0], [1.0, 1.0]), distance([0.0, 1.0], [4.0, 3.0])
    assert by_student != pytest.approx(by_teacher)
    assert _attention(s, b, task=task).item() == pytest.approx(by_student)
    other = _attention(s, b, {"attention_class": "teacher_top"}, task)
    assert other.item() == pytest.approx(by_teacher)


def test_the_class_is_never_a_new_one() -> None:
    state, b = _pair(), _batch()
    before = _attention(state, b)
    with torch.no_grad():
        state.head.bias[3:] = 100.0  # every new logit is the largest
    value = _attention(state, b)
    assert torch.equal(value, before)
    (gradient,) = torch.autograd.grad(value, state.head.weight)
    assert gradient[:3].any()
    assert not gradient[3:].any()


# What trains


def test_facil_lwm_detached_attention_is_not_ours() -> None:
    state = _pair()
    value = _attention(state, _batch())
    convolutions = [m.weight for m in state.net.modules() if isinstance(m, nn.Conv2d)]
    assert value > 0.1
    assert len(convolutions) == 3
    for gradient in torch.autograd.grad(value, convolutions):
        assert gradient.abs().max() > 1e-4
    light, heavy = (tiny.run("lwm", {"attention_weight": w}).results for w in (0.001, 10.0))
    assert light[0].network == heavy[0].network
    assert light[1].network != heavy[1].network


def test_the_class_row_trains_or_not_and_the_backbone_s_gradient_is_the_same() -> None:
    state, b = _pair(), _batch()
    backbone = list(state.net.backbone.parameters())
    through = torch.autograd.grad(_attention(state, b), [*backbone, state.head.weight])
    value = _attention(state, b, {"diff_through_alpha": False})
    fixed = torch.autograd.grad(value, [*backbone, state.head.weight], allow_unused=True)
    assert fixed[-1] is None
    assert through[-1][:3].any()
    assert all(torch.equal(a, c) for a, c in zip(through[:-1], fixed[:-1], strict=True))


def test_a_few_steps_bring_the_maps_together() -> None:
    state, b = _pair(), _batch()
    optimizer = torch.optim.SGD(state.net.parameters(), lr=0.001)
    before = LwM({}).loss(state, b, TASK)
    for _ in range(30):
        optimizer.zero_grad()
        _attention(state, b).backward()
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
    state, b = _pair(), _batch()
    with torch.no_grad():  # so that no class leads for all
        state.head.bias[:5] -= state.net(b.x).logits.mean(dim=0)
    assert len(state.net(b.x).logits[:, :3].argmax(1).unique()) == 3
    each = [_attention(state, Batch(x[None], y[None])) for x, y in zip(b.x, b.y, strict=True)]
    assert _attention(state, b).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


def test_facil_lwm_unnormalised_map_is_not_ours() -> None:
    state, b = _pair(), _batch()
    before = _attention(state, b)
    q, q_old = torch.rand(4, 9, generator=_g(0)), torch.rand(4, 9, generator=_g(1))
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
    state = _pair()
    state.teacher = None
    b = Batch(_batch().x, torch.arange(6) % 5)
    for hp in ({}, {"attention_weight": 10.0, "kd_weight": 8.0, "logit_loss": "sigmoid"}):
        terms = LwM(hp).loss(state, b, tiny.task(5))
        assert list(terms) == ["ce"]
        assert torch.equal(terms["ce"].value, F.cross_entropy(state.net(b.x).logits, b.y))
    assert tiny.run("lwm").results[0].network == tiny.run("finetune").results[0].network


def test_the_terms_and_their_weights() -> None:
    state, b = _pair(), _batch()
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
    state, b = _pair(), _batch()
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


# What it asks of a net


class _Pooling(nn.Module):
    """A convolution whose features are the maximum of its map, or that gives no map."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 3), kind

    def forward(self, x: Tensor) -> Any:
        a = self.conv(x).relu()
        if self.kind == "no maps":
            return a.mean(dim=(2, 3))
        if self.kind == "maximum":
            return a.amax(dim=(2, 3)), (a,)
        if self.kind == "wider":
            return a.mean(dim=(2, 3)).repeat(1, 2), (a,)
        return a.mean(dim=(2, 3)), (a,)


@pytest.fixture(params=["average", "maximum", "no maps", "wider"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """A kind of pooling; the net "pooling" has it."""
    with NETS.temporarily():
        NETS.register("pooling")(lambda shape, last_relu: _Pooling(request.param))
        yield request.param


def test_a_net_that_pools_otherwise_is_refused_before_training(kind: str) -> None:
    settings = tiny.configuration("lwm", net="pooling")
    if kind == "average":
        training = Training(settings, tiny.data())
        assert training.next_task().task == 0
        assert training.next_task().task == 1
        return
    with pytest.raises(BadRequest, match="lwm needs a net whose features are the average") as caught:
        check(settings, tiny.data())
    assert "\n" not in str(caught.value)
    # Nothing of the net is asked for where no map is compared.
    check(tiny.configuration("lwm", {"distill": False}, net="pooling"), tiny.data())


@pytest.mark.parametrize("net", ["convnet", "convnet-small", "resnet32", "resnet18"])
def test_every_net_of_ours_will_do(net: str) -> None:
    check(tiny.configuration("lwm", net=net), tiny.data())


def test_one_new_class_is_recorded_as_a_fallback() -> None:
    task = tiny.task(3, 1)
    assert LwM({}).note(task) is not None
    assert LwM({"ce_scope": "all_seen"}).note(task) is None
