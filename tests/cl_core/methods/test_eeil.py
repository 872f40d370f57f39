"""EEIL: the first stage, its distillation, and what is recorded."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.losses import grouped_kd, kd
from tests import tiny
from tests.cl_core.methods.eeil_inputs import EEIL, balanced_terms, given_state, labels_of, recorded_phases

# Stage 1


def test_stage_1_is_cross_entropy_over_all_and_a_softmax_of_its_own_for_every_old_head() -> None:
    z, z_old, b, task = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    terms = EEIL({"kd_weight": 0.5, "temperature": 3.0}).loss(given_state(z, z_old), b, task)
    assert {name: term.weight for name, term in terms.items()} == {"ce": 1.0, "kd": 0.5}
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))
    by_hand = sum(
        9 * (q * (q.log() - p.log())).sum(1).mean()
        for p, q in (
            ((z[:, :3] / 3).softmax(1), (z_old[:, :3] / 3).softmax(1)),
            ((z[:, 3:5] / 3).softmax(1), (z_old[:, 3:] / 3).softmax(1)),
        )
    )
    assert terms["kd"].value.item() == pytest.approx(float(by_hand), rel=1e-5)


def test_the_default_weight_is_the_paper_s_one_a_head_without_t_squared() -> None:
    hp = EEIL({}).hp
    assert hp.kd_weight * hp.temperature**2 == 1.0
    assert (hp.distill, hp.balanced_teacher, hp.grad_noise) == (True, "post_stage1", "none")


def test_facil_eeil_off_by_one_heads_is_not_ours() -> None:
    z, z_old = tiny.logits(0, 5).requires_grad_(), tiny.logits(1, 3)
    value = EEIL({}).loss(given_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    assert torch.equal(value, kd(z[:, :3], z_old, 2.0))
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient[:, :3].all()
    assert not gradient[:, 3:].any()
    for result in tiny.run("eeil").results[1:]:
        assert all(p.value > 1e-4 for p in result.phases if p.term == "kd")
        assert {p.phase for p in result.phases if p.term == "kd"} == {"train", "balanced"}


def test_inclearn_eeil_distillation_divided_by_heads_is_not_ours() -> None:
    z, z_old, task = tiny.logits(0, 8), tiny.logits(1, 6), tiny.task(2, 2, 2, 2)
    value = EEIL({}).loss(given_state(z, z_old), tiny.batch([6, 7, 0, 3]), task)["kd"].value
    each = [kd(z[:, a : a + 2], z_old[:, a : a + 2], 2.0).item() for a in (0, 2, 4)]
    assert value.item() == pytest.approx(sum(each), rel=1e-5)


def test_facil_eeil_bce_on_probabilities_is_not_ours() -> None:
    # The gradient of T^2 KL: T (p - q) / B a logit.
    z, z_old = tiny.logits(0, 5).requires_grad_(), tiny.logits(1, 3)
    value = EEIL({}).loss(given_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    (gradient,) = torch.autograd.grad(value, z)
    p, q = (z[:, :3] / 2).softmax(1), (z_old / 2).softmax(1)
    assert torch.allclose(gradient[:, :3], 2 * (p - q) / 4, atol=1e-6)


def test_a_constant_on_one_head_changes_no_distillation() -> None:
    z, z_old, stage1, b = tiny.logits(0, 6), tiny.logits(1, 4), tiny.logits(2, 6), tiny.batch([0, 2, 4, 5])
    task = tiny.task(2, 2, 2)
    moved = z + torch.tensor([0.0, 0.0, 3.0, 3.0, -2.0, -2.0])
    a, c = (EEIL({}).loss(given_state(x, z_old), b, task) for x in (z, moved))
    assert torch.allclose(a["kd"].value, c["kd"].value, atol=1e-5)
    assert not torch.allclose(a["ce"].value, c["ce"].value, atol=1e-3)
    a, c = (balanced_terms({}, given_state(x, z_old, stage1), b, task) for x in (z, moved))
    for name in ("kd", "kd_new"):
        assert torch.allclose(a[name].value, c[name].value, atol=1e-5)


def test_ssil_repo_eeil_slices_of_equal_tasks_is_not_ours() -> None:
    z, z_old, stage1 = tiny.logits(0, 8), tiny.logits(1, 6), tiny.logits(2, 8)
    b, task = tiny.batch([0, 5, 6, 7]), tiny.task(5, 1, 2)
    state = given_state(z, z_old, stage1)
    value = EEIL({}).loss(state, b, task)["kd"].value
    assert torch.equal(value, grouped_kd(z, z_old, 2.0, ((0, 5), (5, 6))))
    terms = balanced_terms({}, state, b, task)
    assert torch.equal(terms["kd"].value, grouped_kd(z, stage1, 2.0, ((0, 5), (5, 6))))
    assert torch.equal(terms["kd_new"].value, kd(z[:, 6:], stage1[:, 6:], 2.0))


# Without distillation


def test_without_distillation_both_stages_lose_it_and_no_frozen_network_answers() -> None:
    z, b, task = tiny.logits(0, 7), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    state = given_state(z, tiny.logits(1, 5), tiny.logits(2, 7))
    method = EEIL({"distill": False})
    for terms in (method.loss(state, b, task), balanced_terms({"distill": False}, state, b, task)):
        assert list(terms) == ["ce"]
        assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))
    assert state.teacher is not None
    assert not state.teacher.net.asked
    assert not state.copies["stage1"].net.asked
    phases, _ = recorded_phases({"distill": False})
    assert [p.phase.name for p in phases[1:]] == ["train", "balanced"] * 2
    assert all(p.copy is None for p in phases)


def test_without_distillation_and_stage_2_it_is_replay_bit_for_bit() -> None:
    ours = tiny.run("eeil", {"distill": False, "balanced_epochs": 0.0})
    for a, c in zip(ours.states, tiny.run("replay").states, strict=True):
        assert a.keys() == c.keys()
        assert all(torch.equal(a[name], c[name]) for name in a)


# What is recorded


def test_a_head_of_one_class_is_recorded() -> None:
    assert EEIL({}).note(tiny.task(3)) is None
    assert EEIL({}).note(tiny.task(3, 2)) is None
    assert EEIL({}).note(tiny.task(3, 1)) is not None
    assert EEIL({}).note(tiny.task(1, 3)) is not None
    assert EEIL({"distill": False}).note(tiny.task(3, 1)) is None
    z = tiny.logits(0, 4).requires_grad_()
    terms = balanced_terms(
        {}, given_state(z, tiny.logits(1, 3), tiny.logits(2, 4)), tiny.batch([0, 1, 3, 3]), tiny.task(3, 1)
    )
    assert terms["kd_new"].value.item() == 0.0
    assert torch.autograd.grad(terms["kd_new"].value, z)[0].isfinite().all()


def test_unequal_tasks_run_to_the_end() -> None:
    for scenario in ({"base": 4, "increments": [1, 2]}, {"base": 1, "increments": [4, 2]}):
        phases, training = recorded_phases(scenario=scenario)
        assert training.finished
        for stage in [p for p in phases if p.phase.name == "balanced"]:
            labels = labels_of(training, stage.phase.rows[0].ids)
            assert {labels.count(c) for c in range(stage.task.seen)} == {10}
