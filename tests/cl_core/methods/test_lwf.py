"""Learning without Forgetting: its loss on given logits, its head rows, its warm-up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_core.blocks.losses import grouped_kd, kd
from cl_core.method import METHODS, Method
from cl_core.state import State
from cl_core.task import Batch, Task
from tests import tiny

LwF = METHODS["lwf"]


def _gradient(method: Method, s: State, b: Batch, task: Task, z: Tensor) -> Tensor:
    total = torch.zeros(())
    for term in method.loss(s, b, task).values():
        total = total + term.value * term.weight
    return torch.autograd.grad(total, z)[0]


def test_the_loss_is_cross_entropy_on_new_classes_and_weighted_distillation_of_old_ones() -> None:
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 3)
    terms = LwF({"kd_weight": 0.5, "temperature": 3.0}).loss(
        tiny.fixed_state(z, z_old), tiny.batch([3, 4, 4, 3]), tiny.task(3, 2)
    )
    assert terms["ce"].value.item() == pytest.approx(
        torch.nn.functional.cross_entropy(z[:, 3:], torch.tensor([0, 1, 1, 0])).item()
    )
    assert terms["kd"].value.item() == pytest.approx(kd(z[:, :3], z_old, 3.0).item())
    assert (terms["ce"].weight, terms["kd"].weight) == (1.0, 0.5)


def test_the_default_weight_is_the_paper_s_one_without_t_squared() -> None:
    hp = LwF({}).hp
    assert hp.kd_weight * hp.temperature**2 == 1.0
    assert (hp.kd_softmax, hp.ce_scope, hp.train_old_head, hp.warmup) == ("joint", "new_only", True, 0.0)


def test_the_first_task_has_no_distillation() -> None:
    z = tiny.logits(0, 3)
    for hp in ({}, {"temperature": 4.0, "kd_weight": 8.0, "warmup": 0.5, "ce_scope": "all_seen"}):
        terms = LwF(hp).loss(tiny.fixed_state(z), tiny.batch([0, 1, 2, 0]), tiny.task(3))
        assert list(terms) == ["ce"]
        assert torch.equal(
            terms["ce"].value, torch.nn.functional.cross_entropy(z, torch.tensor([0, 1, 2, 0]))
        )


@pytest.mark.parametrize("scope", ["new_only", "all_seen"])
def test_without_distillation_the_step_is_fine_tuning_s(scope: str) -> None:
    z, b, task = tiny.logits(0, 5).requires_grad_(), tiny.batch([3, 4, 4, 3]), tiny.task(3, 2)
    lwf = LwF({"ce_scope": scope})
    ce = lwf.loss(tiny.fixed_state(z, tiny.logits(1, 3)), b, task)["ce"]
    tuned = METHODS["finetune"]({"ce_scope": scope}).loss(tiny.fixed_state(z), b, task)["ce"]
    assert torch.equal(ce.value, tuned.value)
    own, other = (torch.autograd.grad(t.value, z)[0] for t in (ce, tuned))
    assert torch.equal(own, other)


def test_per_task_softmax_is_blind_to_a_constant_on_one_task_and_joint_is_not() -> None:
    z, z_old, b = tiny.logits(0, 6), tiny.logits(1, 4), tiny.batch([4, 5, 4, 5])
    moved = z + torch.tensor([0.0, 0.0, 3.0, 3.0, 0.0, 0.0])
    task = tiny.task(2, 2, 2)
    for softmax, same in (("per_task", True), ("joint", False)):
        method = LwF({"kd_softmax": softmax})
        a = method.loss(tiny.fixed_state(z, z_old), b, task)["kd"].value
        c = method.loss(tiny.fixed_state(moved, z_old), b, task)["kd"].value
        assert torch.allclose(a, c, atol=1e-5) == same
    expected = grouped_kd(z, z_old, 2.0, ((0, 2), (2, 4)))
    value = LwF({"kd_softmax": "per_task"}).loss(tiny.fixed_state(z, z_old), b, task)["kd"].value
    assert torch.equal(value, expected)


def test_distillation_pulls_old_logits_alone_and_cross_entropy_new_ones_alone() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    b, task = tiny.batch([3, 4, 4, 3]), tiny.task(3, 2)
    terms = LwF({}).loss(tiny.fixed_state(z, tiny.logits(1, 3)), b, task)
    ce, distilled = (torch.autograd.grad(terms[n].value, z, retain_graph=True)[0] for n in ("ce", "kd"))
    assert not ce[:, :3].any()
    assert ce[:, 3:].all()
    assert not distilled[:, 3:].any()
    assert distilled[:, :3].all()


def test_defect_mammoth_lwf_teacher_sees_other_views_than_the_student() -> None:
    state = tiny.fixed_state(tiny.logits(0, 5), tiny.logits(1, 3))
    b = tiny.batch([3, 4, 4, 3])
    LwF({}).loss(state, b, tiny.task(3, 2))
    assert state.teacher is not None
    assert state.net.asked[0] is b.x  # type: ignore[index, union-attr]
    assert state.teacher.net.asked[0] is b.x  # type: ignore[index, union-attr]


def test_defect_avalanche_lwf_cross_entropy_over_all_units() -> None:
    z = tiny.logits(0, 5).requires_grad_()
    gradient = _gradient(
        LwF({}), tiny.fixed_state(z, z[:, :3].detach()), tiny.batch([3] * 4), tiny.task(3, 2), z
    )
    # The teacher agrees on the old logits, so nothing pushes them down.
    assert torch.allclose(gradient[:, :3], torch.zeros(4, 3), atol=1e-6)
    assert gradient[:, 3:].all()


def test_defect_facil_lwf_old_rows_never_train() -> None:
    free, kept = tiny.run("lwf"), tiny.run("lwf", {"train_old_head": False})
    for t in (1, 2):
        old = sum(tiny.SIZES[:t])
        for name in ("net.head.weight", "net.head.bias"):
            assert torch.equal(kept.states[t][name][:old], kept.states[t - 1][name][:old])
            assert not torch.equal(free.states[t][name][:old], free.states[t - 1][name][:old])
    assert torch.equal(free.states[0]["net.head.weight"], kept.states[0]["net.head.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_defect_pycil_weight_decay_shrinks_rows_that_no_loss_reaches(optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "weight_decay": 0.5, "lr": 0.01}
    kept = tiny.run("lwf", {"train_old_head": False}, recipe)
    assert torch.equal(kept.states[2]["net.head.weight"][:3], kept.states[0]["net.head.weight"][:3])


def test_the_warm_up_trains_new_rows_alone_before_all_train() -> None:
    passed = tiny.phases("lwf", {"warmup": 0.3}, recipe={"epochs": 4})
    for task, phase, before, after in passed:
        if phase.name == "warmup":
            moved = {name for name in after if not torch.equal(after[name], before[name])}
            assert moved == {"net.head.weight", "net.head.bias"}
            for name in moved:
                assert torch.equal(after[name][: task.old], before[name][: task.old])
    warm = math.ceil(0.3 * 4)
    assert [(p.task.index, p.phase.name, p.phase.recipe.epochs) for p in passed] == [
        (0, "train", 4),
        *((t, phase, n) for t in (1, 2) for phase, n in (("warmup", warm), ("train", 4))),
    ]


def test_one_new_class_is_recorded_as_a_fallback() -> None:
    task = tiny.task(3, 1)
    assert LwF({}).note(task) is not None
    assert LwF({"ce_scope": "all_seen"}).note(task) is None
    finished = tiny.train(tiny.configuration("lwf", scenario={"base": 5, "increments": [1, 1]}))
    assert [r.note is not None for r in finished.results] == [False, True, True]


# Without distillation


@pytest.mark.parametrize("scope", ["new_only", "all_seen"])
def test_with_distillation_off_a_run_is_fine_tuning_s_in_the_same_scope(scope: str) -> None:
    off = tiny.run("lwf", {"distill": False, "ce_scope": scope})
    tuned = tiny.run("finetune", {"ce_scope": scope})
    for a, b in zip(off.results, tuned.results, strict=True):
        assert (a.network, a.phases) == (b.network, b.phases)
    assert off.results[1].network != tiny.run("lwf", {"ce_scope": scope}).results[1].network


def test_with_distillation_off_the_teacher_is_not_asked() -> None:
    state = tiny.fixed_state(tiny.logits(0, 5), tiny.logits(1, 3))
    terms = LwF({"distill": False}).loss(state, tiny.batch([3, 4, 4, 3]), tiny.task(3, 2))
    assert list(terms) == ["ce"]
    assert state.teacher is not None
    assert not state.teacher.net.asked


def test_with_distillation_off_warm_up_and_frozen_rows_stay() -> None:
    hp = {"distill": False, "warmup": 0.5, "train_old_head": False}
    off = tiny.run("lwf", hp)
    assert {p.phase for p in off.results[1].phases} == {"warmup", "train"}
    for name in ("net.head.weight", "net.head.bias"):
        assert torch.equal(off.states[1][name][:3], off.states[0][name][:3])
