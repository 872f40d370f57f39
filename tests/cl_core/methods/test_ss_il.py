"""SS-IL: its two softmaxes on given logits, its steps of new and replayed images, its learning rate."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.exemplars import rank
from cl_core.blocks.losses import kd
from cl_core.method import METHODS, Phase
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from tests import tiny

SSIL = METHODS["ss_il"]
LN2 = math.log(2)


def _terms(z: Tensor, z_old: Tensor | None, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    return SSIL(hp).loss(tiny.fixed_state(z, z_old), tiny.batch(labels), tiny.task(*sizes))


def _steps(**hp: Any) -> dict[tuple[int, int], list[Tensor]]:
    """The labels of every step of a tiny run, by task and epoch."""
    seen: dict[tuple[int, int], list[Tensor]] = {}
    epoch = 0

    def watch(event: Event) -> None:
        nonlocal epoch
        epoch = event.epoch

    def noting(phase: Phase) -> Phase:
        def loss(s: State, b: Batch, t: Task) -> dict[str, Term]:
            seen.setdefault((t.index, epoch), []).append(b.y.clone())
            return phase.loss(s, b, t)

        return dataclasses.replace(phase, loss=loss)

    training = Training(tiny.configuration("ss_il", hp), tiny.data(), watch=watch)
    training.learner = dataclasses.replace(training.learner, adapt=noting)
    while not training.finished:
        training.next_task()
    return seen


# The separated softmax


def test_the_cross_entropy_by_hand_is_a_mean_over_new_and_replayed_samples() -> None:
    # Of two old classes the right one has probability 3/4, of two new ones 1/2; the other part is ignored.
    z = torch.tensor([[math.log(3), 0.0, 9.0, 9.0], [50.0, 50.0, 0.0, 0.0], [50.0, 50.0, 0.0, 0.0]])
    ce = _terms(z, z[:, :2], [0, 2, 3], 2, 2)["ce"]
    assert ce.value.item() == pytest.approx((math.log(4 / 3) + 2 * LN2) / 3)
    assert ce.weight == 1.0


def test_replayed_samples_leave_new_logits_alone_and_new_samples_old_ones() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    ce = _terms(z, tiny.logits(1, 3), [3, 0, 4, 2], 3, 2)["ce"].value
    gradient = torch.autograd.grad(ce, z)[0]
    is_new = torch.tensor([True, False, True, False])
    assert not gradient[is_new, :3].any()
    assert not gradient[~is_new, 3:].any()
    assert gradient[is_new, 3:].all()
    assert gradient[~is_new, :3].all()


@pytest.mark.parametrize("labels", [[3, 4, 3, 4], [0, 1, 2, 0]])
def test_a_batch_of_new_samples_alone_or_of_exemplars_alone_is_finite(labels: list[int]) -> None:
    z = tiny.logits(0, 5).requires_grad_()
    terms = _terms(z, tiny.logits(1, 3), labels, 3, 2)
    gradient = torch.autograd.grad(terms["ce"].value + terms["kd"].value, z)[0]
    assert gradient.isfinite().all()
    part = z[:, 3:] if labels[0] > 2 else z[:, :3]
    expected = F.cross_entropy(part, torch.tensor(labels) % 3)
    assert torch.allclose(terms["ce"].value, expected)


def test_the_first_task_is_plain_cross_entropy_whatever_the_increments_do() -> None:
    z, labels = tiny.logits(0, 3), [0, 1, 2, 0]
    for hp in ({}, {"kd_weight": 9.0, "temperature": 4.0, "distill": False, "lr_task_decay": "none"}):
        terms = _terms(z, None, labels, 3, **hp)
        assert list(terms) == ["ce"]
        assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor(labels)))
    assert tiny.run("ss_il").results[0].network == tiny.run("finetune").results[0].network


def test_one_new_class_falls_back_to_all_seen_classes_and_says_so() -> None:
    z, labels = tiny.logits(0, 4), [3, 0, 1, 3]
    # The softmax of one class is constant: its cross-entropy is zero and teaches nothing.
    assert F.cross_entropy(z[:, 3:], torch.zeros(4, dtype=torch.int64)).item() == 0
    terms = _terms(z, tiny.logits(1, 3), labels, 3, 1)
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, torch.tensor(labels)))
    assert SSIL({}).note(tiny.task(3, 1)) is not None
    assert SSIL({}).note(tiny.task(3, 2)) is None
    finished = tiny.train(tiny.configuration("ss_il", scenario={"base": 5, "increments": [1, 1]}))
    assert [r.note is not None for r in finished.results] == [False, True, True]


# The task-wise distillation


def test_the_distillation_by_hand_carries_t_squared_and_weight_1() -> None:
    # At T = 2 the teacher's two classes have 3/4 and 1/4, the student's 1/2 each.
    z = torch.zeros(1, 4)
    z_old = torch.tensor([[2 * math.log(3), 0.0]])
    term = _terms(z, z_old, [2], 2, 2)["kd"]
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert term.value.item() == pytest.approx(4 * divergence)
    assert term.weight == 1.0
    assert _terms(z, z_old, [2], 2, 2, kd_weight=0.3)["kd"].weight == 0.3


def test_the_distillation_is_blind_to_a_constant_on_one_task_and_a_joint_one_is_not() -> None:
    z, z_old = tiny.logits(0, 6), tiny.logits(1, 4)
    moved = z + torch.tensor([0.0, 0.0, 3.0, 3.0, 0.0, 0.0])
    a, b = (_terms(logits, z_old, [4, 0, 2, 5], 2, 2, 2)["kd"].value for logits in (z, moved))
    assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(kd(z[:, :4], z_old, 2.0), kd(moved[:, :4], z_old, 2.0), atol=1e-2)


def test_with_one_old_task_the_distillation_is_the_joint_one() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    assert torch.equal(_terms(z, z_old, [3, 0, 4, 2], 3, 2)["kd"].value, kd(z[:, :3], z_old, 2.0))


def test_the_distillation_grows_with_the_number_of_old_tasks() -> None:
    # The same two logits in every old task: each adds the same divergence.
    pair, pair_old = tiny.logits(0, 2), tiny.logits(1, 2)
    one, three = (
        _terms(pair.repeat(1, n + 1), pair_old.repeat(1, n), [0, 1, 0, 1], *[2] * (n + 1))["kd"].value
        for n in (1, 3)
    )
    assert three.item() == pytest.approx(3 * one.item(), rel=1e-5)


def test_the_distillation_sees_both_halves_of_the_batch_and_divides_by_all() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    z_old = tiny.logits(1, 3)
    value = _terms(z, z_old, [3, 4, 0, 1], 3, 2)["kd"].value
    gradient = torch.autograd.grad(value, z)[0]
    assert gradient[:, :3].all()  # of new samples (0, 1) and of exemplars (2, 3)
    assert not gradient[:, 3:].any()
    halves = [kd(z[rows, :3], z_old[rows], 2.0) for rows in (slice(0, 2), slice(2, 4))]
    assert value.item() == pytest.approx(sum(h.item() for h in halves) / 2, rel=1e-5)


def test_where_the_student_is_the_teacher_the_distillation_and_its_gradient_are_zero() -> None:
    z = tiny.logits(0, 7).requires_grad_()
    value = _terms(z, z[:, :5].detach(), [0, 3, 5, 6], 3, 2, 2)["kd"].value
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(torch.autograd.grad(value, z)[0], torch.zeros(4, 7), atol=1e-6)


def test_student_and_teacher_see_the_same_views_in_one_forward() -> None:
    state, b = tiny.fixed_state(tiny.logits(0, 5), tiny.logits(1, 3)), tiny.batch([3, 4, 0, 1])
    SSIL({}).loss(state, b, tiny.task(3, 2))
    assert state.teacher is not None
    for net in (state.net, state.teacher.net):
        assert len(net.asked) == 1  # type: ignore[arg-type]
        assert net.asked[0] is b.x  # type: ignore[index]


def test_without_distillation_the_separated_softmax_is_left_and_the_teacher_is_not_asked() -> None:
    z, labels = tiny.logits(0, 5), [3, 0, 4, 2]
    state = tiny.fixed_state(z, tiny.logits(1, 3))
    terms = SSIL({"distill": False}).loss(state, tiny.batch(labels), tiny.task(3, 2))
    assert list(terms) == ["ce"]
    assert torch.equal(terms["ce"].value, _terms(z, tiny.logits(1, 3), labels, 3, 2)["ce"].value)
    plain = METHODS["replay"]({"softmax": "separated"}).loss(
        tiny.fixed_state(z), tiny.batch(labels), tiny.task(3, 2)
    )
    assert torch.equal(terms["ce"].value, plain["ce"].value)
    assert state.teacher is not None
    assert not state.teacher.net.asked


# Steps


@pytest.mark.parametrize("replay_batch", [8, 48])  # the memory has 30 images and more: once over, or less
def test_every_step_has_the_batch_of_new_and_the_replay_batch_of_old_images(replay_batch: int) -> None:
    steps = _steps(replay_batch=replay_batch)
    for (task, _), labels in steps.items():
        old = sum(tiny.SIZES[:task])
        for y in labels:
            assert int((y < old).sum()) == (replay_batch if task else 0)
    new = [[int((y >= sum(tiny.SIZES[:t])).sum()) for y in labels] for (t, _), labels in steps.items()]
    # An epoch is one pass over the new images: 42, 28 and 28 of them in steps of 16, twice.
    assert new == [[16, 16, 10]] * 2 + [[16, 12]] * 4
    assert {key: len(labels) for key, labels in steps.items()} == {
        **{(0, e): 3 for e in (0, 1)},
        **{(t, e): 2 for t in (1, 2) for e in (0, 1)},
    }


def test_exemplars_are_repeated_in_turn() -> None:
    # 2 x 48 places for 50 exemplars of 5 classes: none is shown a third time before all were shown.
    shown: Counter[int] = Counter()
    for y in _steps(replay_batch=48)[2, 0]:
        shown.update(y[y < 5].tolist())
    assert sum(shown.values()) == 96
    assert all(16 <= shown[c] <= 20 for c in range(5))


def test_the_default_is_128_new_and_32_replayed_images() -> None:
    hp = SSIL({}).hp
    assert (hp.replay_batch, hp.kd_weight, hp.temperature, hp.lr_task_decay) == (32, 1.0, 2.0, "inverse")
    assert (hp.budget, hp.exemplars_per_class, hp.selection) == ("per_class", 20, "herding")


# The learning rate


def test_the_learning_rate_is_divided_by_the_number_of_tasks_so_far() -> None:
    for decay, rates in (("inverse", [0.05, 0.025, 0.05 / 3]), ("none", [0.05] * 3)):
        finished = tiny.run("ss_il", {"lr_task_decay": decay})
        assert [r.recipe["lr"] for r in finished.results] == pytest.approx(rates)
        assert [r.phases[0].learning_rate for r in finished.results] == pytest.approx(rates)


def test_a_rate_of_the_increments_own_is_divided_too() -> None:
    recipe = {"increment": {"lr": 0.06}}
    finished = tiny.run("ss_il", recipe=recipe)
    assert [r.recipe["lr"] for r in finished.results] == pytest.approx([0.05, 0.03, 0.02])


# Defects of others


def test_defect_official_ss_il_modulo_targets() -> None:
    # 3 old and 2 new classes: 3 % 2 = 1 and 4 % 2 = 0, so the new labels would be swapped.
    z = torch.zeros(2, 5)
    z[:, 3] = math.log(3)
    sure = _terms(z, z[:, :3], [3, 3], 3, 2)["ce"].value.item()
    assert sure == pytest.approx(math.log(4 / 3))
    swapped = F.cross_entropy(z[:, 3:], torch.tensor([3, 3]) % 2).item()
    assert swapped == pytest.approx(math.log(4))


def test_defect_ssil_repo_slices_assume_equal_tasks() -> None:
    z, z_old = tiny.logits(0, 7), tiny.logits(1, 5)
    value = _terms(z, z_old, [5, 6, 0, 4], 3, 2, 2)["kd"].value
    own = kd(z[:, :3], z_old[:, :3], 2.0) + kd(z[:, 3:5], z_old[:, 3:], 2.0)
    equal = kd(z[:, :2], z_old[:, :2], 2.0) + kd(z[:, 2:4], z_old[:, 2:4], 2.0)
    assert torch.allclose(value, own)
    assert not torch.allclose(value, equal, atol=1e-2)


def test_defect_official_ss_il_drop_last_leaves_images_out() -> None:
    # 28 new images in steps of 16: a dropped last step would leave 12 of them unseen in every epoch.
    for (task, _), labels in _steps(replay_batch=8).items():
        old = sum(tiny.SIZES[:task])
        shown = torch.cat(labels)
        assert all(int((shown == c).sum()) >= tiny.TRAIN for c in range(old, sum(tiny.SIZES[: task + 1])))


def test_defect_official_ss_il_keeps_the_first_images_instead_of_herding() -> None:
    finished = tiny.run("ss_il")
    training = finished.training
    g = Streams(0, 2)
    for c in (5, 6):
        rows = training.view.rows([c])
        kept = finished.states[-1][f"memory.exemplars.{c}"]
        ranked = rank(training.method.hp, training.state.net, training.view, rows, 10, g("exemplars", c))
        assert torch.equal(kept, ranked)
        assert kept.tolist() != rows[:10].tolist()
