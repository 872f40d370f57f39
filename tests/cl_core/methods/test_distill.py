"""Distillation alone: its terms on given answers, the rows that train, the losses that coincide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cl_core.blocks.distillation import DISTILLATIONS, Pair
from cl_core.errors import BadRequest
from cl_core.hparams import Value
from cl_core.method import METHODS
from cl_core.nets.network import Frozen, LinearHead
from cl_core.state import State
from cl_core.task import Batch, Out
from cl_core.training.checks import check
from tests import tiny

Distill = METHODS["distill"]
every_loss = pytest.mark.parametrize("loss", DISTILLATIONS)
Y = torch.tensor([3, 4, 4, 3])


class Answering(nn.Module):
    """A network that gives the same answer whatever the images, and notes what it was asked."""

    def __init__(self, seed: int, classes: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.out = Out(
            torch.randn(4, 6, generator=g),
            2 * torch.randn(4, classes, generator=g),
            (torch.randn(4, 2, 3, 3, generator=g), torch.randn(4, 3, 2, 2, generator=g)),
        )
        self.head = LinearHead(6, classes)
        self.head.open(0, classes, g)
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Out:
        self.asked.append(x)
        return self.out


def _state(teacher: bool = True) -> State:
    state = State(Answering(0, 5), lambda: Answering(0, 5), ())  # type: ignore[arg-type, return-value]
    if teacher:
        state.teacher = Frozen(Answering(1, 3))  # type: ignore[arg-type]
    return state


def _batch() -> Batch:
    return Batch(torch.zeros(4, 3, 8, 8), Y)


@every_loss
def test_the_loss_is_cross_entropy_on_new_classes_and_the_chosen_loss_at_its_usual_weight(loss: str) -> None:
    state, task = _state(), tiny.task(3, 2)
    entry = DISTILLATIONS[loss]
    terms = Distill({"loss": loss, "kd_weight": 3.0, "temperature": 4.0}).loss(state, _batch(), task)
    name = "kd" if entry.level == "logits" else "feature_kd"
    assert list(terms) == ["ce", name]
    student, teacher = Answering(0, 5), Answering(1, 3)
    pair = Pair(student.out, teacher.out, student.head.weight[:3], teacher.head.weight, 4.0)
    assert torch.equal(terms[name].value, entry.loss(pair))
    assert terms[name].value > 0
    assert terms[name].weight == pytest.approx(3 * entry.weight)
    new = torch.nn.functional.cross_entropy(student.out.logits[:, 3:], Y - 3)
    assert torch.equal(terms["ce"].value, new)


def test_the_defaults_are_kl_at_lwf_s_weight_with_frozen_old_rows() -> None:
    hp = Distill({}).hp
    assert (hp.loss, hp.kd_weight, hp.temperature, hp.t_squared) == ("kl", 1.0, 2.0, True)
    assert (hp.ce_scope, hp.train_old_head) == ("new_only", False)
    lwf = METHODS["lwf"]({}).hp
    assert DISTILLATIONS["kl"].weight == lwf.kd_weight
    state, task = _state(), tiny.task(3, 2)
    own, other = (METHODS[m]({}).loss(state, _batch(), task)["kd"] for m in ("distill", "lwf"))
    assert torch.equal(own.value * own.weight, other.value * other.weight)


@every_loss
def test_the_first_task_has_no_distillation(loss: str) -> None:
    state = _state(teacher=False)
    y = torch.tensor([0, 1, 2, 0])
    terms = Distill({"loss": loss}).loss(state, Batch(_batch().x, y), tiny.task(5))
    assert list(terms) == ["ce"]
    expected = torch.nn.functional.cross_entropy(Answering(0, 5).out.logits, y)
    assert torch.equal(terms["ce"].value, expected)


@every_loss
def test_student_and_teacher_see_one_view_once(loss: str) -> None:
    state, b = _state(), _batch()
    Distill({"loss": loss}).loss(state, b, tiny.task(3, 2))
    assert state.teacher is not None
    for net in (state.net, state.teacher.net):
        assert len(net.asked) == 1  # type: ignore[arg-type]
        assert net.asked[0] is b.x  # type: ignore[index]


@pytest.mark.parametrize("scope", ["new_only", "all_seen"])
def test_without_a_loss_it_is_fine_tuning_and_does_not_ask_the_teacher(scope: str) -> None:
    state, task = _state(), tiny.task(3, 2)
    terms = Distill({"loss": "none", "ce_scope": scope}).loss(state, _batch(), task)
    assert list(terms) == ["ce"]
    assert state.teacher is not None
    assert not state.teacher.net.asked
    tuned = METHODS["finetune"]({"ce_scope": scope}).loss(state, _batch(), task)
    assert torch.equal(terms["ce"].value, tuned["ce"].value)


def test_without_a_loss_and_with_all_rows_free_the_run_is_fine_tuning_s_bit_for_bit() -> None:
    own = tiny.run("distill", {"loss": "none", "train_old_head": True})
    tuned = tiny.run("finetune", {"ce_scope": "new_only"})
    for a, b in zip(own.states, tuned.states, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    kept = tiny.run("distill", {"loss": "none"})
    assert torch.equal(own.states[0]["net.head.weight"], kept.states[0]["net.head.weight"])


# The rows that train


@pytest.mark.parametrize("scope", ["new_only", "all_seen"])
@pytest.mark.parametrize("loss", ["none", "kl", "logit-l1", "feature-l2", "relation-prototype"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_old_head_rows_are_bitwise_unchanged(loss: str, scope: str, optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "weight_decay": 0.5, "lr": 0.01, "momentum": 0.9, "epochs": 1}
    finished = tiny.train(tiny.configuration("distill", {"loss": loss, "ce_scope": scope}, recipe=recipe))
    for t in (1, 2):
        old, seen = sum(tiny.SIZES[:t]), sum(tiny.SIZES[: t + 1])
        for name in ("net.head.weight", "net.head.bias"):
            now, before = finished.states[t][name], finished.states[t - 1][name]
            assert torch.equal(now[:old], before[:old])
            assert now[old:seen].any()
        assert not torch.equal(
            finished.states[t]["net.backbone.convs.0.weight"],
            finished.states[t - 1]["net.backbone.convs.0.weight"],
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_defect_pycil_weight_decay_shrinks_old_rows_that_no_loss_reaches(optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "weight_decay": 0.5, "lr": 0.01}
    for loss in ("none", "feature-cosine"):
        free = tiny.run("distill", {"loss": loss, "train_old_head": True}, recipe)
        before, after = (free.states[t]["net.head.weight"][:3] for t in (0, 1))
        assert after.norm() < 0.99 * before.norm()
        kept = tiny.run("distill", {"loss": loss}, recipe)
        assert torch.equal(kept.states[1]["net.head.weight"][:3], kept.states[0]["net.head.weight"][:3])


def test_all_rows_train_where_that_is_chosen() -> None:
    free = tiny.run("distill", {"train_old_head": True}, {"weight_decay": 0.0})
    assert not torch.equal(free.states[1]["net.head.weight"][:3], free.states[0]["net.head.weight"][:3])


# Losses against one another


def test_cross_entropy_and_kl_train_one_network_and_the_bare_cross_entropy_another() -> None:
    chosen: list[dict[str, Value]] = [
        {"loss": "kl"},
        {"loss": "cross-entropy"},
        {"loss": "cross-entropy", "t_squared": False},
    ]
    kl, ce, bare = (tiny.run("distill", hp).states[1] for hp in chosen)
    names = [name for name in kl if name.startswith("net.") and kl[name].is_floating_point()]
    assert all(torch.allclose(kl[n], ce[n], atol=1e-4) for n in names)
    assert not all(torch.allclose(kl[n], bare[n], atol=1e-3) for n in names)


def test_every_loss_trains_a_network_of_its_own() -> None:
    checkpoints = {
        loss: tiny.run("distill", {"loss": loss}).results[1].network for loss in ("none", *DISTILLATIONS)
    }
    assert len(set(checkpoints.values())) == len(checkpoints)
    first = {tiny.run("distill", {"loss": loss}).results[0].network for loss in checkpoints}
    assert len(first) == 1


@pytest.mark.parametrize("loss", ["kl", "logit-l2", "feature-l2"])
def test_a_heavy_weight_holds_the_student_near_its_teacher(loss: str) -> None:
    def moved(weight: float) -> float:
        values = [
            p.value
            for p in tiny.run("distill", {"loss": loss, "kd_weight": weight}).results[1].phases
            if p.term in ("kd", "feature_kd")
        ]
        return values[-1]

    assert moved(10.0) < moved(0.01)


# Nets without maps, one new class


@pytest.mark.parametrize("loss", ["pod", "attention"])
def test_a_net_without_maps_is_refused_before_it_is_trained(loss: str) -> None:
    net = "tests.tiny:plain_net"
    for method in ("distill", "replay"):
        with pytest.raises(BadRequest, match=f"loss '{loss}' needs a net that gives its maps") as caught:
            check(tiny.configuration(method, {"loss": loss}, net=net), tiny.data())
        assert "\n" not in str(caught.value)
    check(tiny.configuration("distill", {"loss": "kl"}, net=net), tiny.data())


def test_one_new_class_is_recorded_as_a_fallback() -> None:
    task = tiny.task(3, 1)
    assert Distill({}).note(task) is not None
    assert Distill({"ce_scope": "all_seen"}).note(task) is None
    assert Distill({}).note(tiny.task(3, 2)) is None
