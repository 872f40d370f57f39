"""End-to-end incremental learning: distillation a head, the balanced stage, the gradient noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.exemplars import features_of
from cl_core.blocks.losses import grouped_kd, kd
from cl_core.images.dataset import Data, Images
from cl_core.memory import herding
from cl_core.method import METHODS, Phase
from cl_core.nets.network import Frozen
from cl_core.rng import stream
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.checkpoints import network_digest
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from tests import tiny

EEIL = METHODS["eeil"]


def _state(z: Tensor, z_old: Tensor, z_stage1: Tensor | None = None) -> State:
    state = tiny.fixed_state(z, z_old, EEIL.memories)
    if z_stage1 is not None:
        state.copies["stage1"] = Frozen(tiny.Fixed(z_stage1))  # type: ignore[arg-type]
    return state


def _balanced(hp: dict[str, Any], s: State, b: Batch, task: Task) -> dict[str, Term]:
    return EEIL(hp).balanced_loss(s, b, task)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Seen:
    """A phase of a run, with what stood when it began and ended."""

    task: Task
    phase: Phase
    memory: dict[int, list[int]]
    before: str  # digests of the network
    after: str
    copy: str | None  # digest of the network frozen after stage 1


def _phases(
    hp: dict[str, Any] | None = None, source: Data | None = None, **rest: Any
) -> tuple[list[Seen], Training]:
    seen: list[Seen] = []
    before = ""

    def watch(event: Event) -> None:
        nonlocal before
        state = event.state
        if event.kind == "phase begins":
            before = network_digest(state.net.state_dict())
        elif event.kind == "phase ends":
            memory = {c: rows.tolist() for c, rows in state.memory.rows.items()}
            after = network_digest(state.net.state_dict())
            frozen = state.copies.get("stage1")
            copy = network_digest(frozen.net.state_dict()) if frozen is not None else None
            seen.append(Seen(event.task, event.phase, memory, before, after, copy))

    finished = tiny.train(tiny.configuration("eeil", hp, **rest), source, watch=watch)
    return seen, finished.training


@cache
def _default() -> tuple[list[Seen], Training]:
    return _phases()


def _labels(training: Training, rows: Tensor) -> list[int]:
    return training.view.labels(rows).tolist()


# Stage 1


def test_stage_1_is_cross_entropy_over_all_and_a_softmax_of_its_own_for_every_old_head() -> None:
    z, z_old, b, task = tiny.logits(0, 7), tiny.logits(1, 5), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    terms = EEIL({"kd_weight": 0.5, "temperature": 3.0}).loss(_state(z, z_old), b, task)
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
    value = EEIL({}).loss(_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    assert torch.equal(value, kd(z[:, :3], z_old, 2.0))
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient[:, :3].all()
    assert not gradient[:, 3:].any()
    for result in tiny.run("eeil").results[1:]:
        assert all(p.value > 1e-4 for p in result.phases if p.term == "kd")
        assert {p.phase for p in result.phases if p.term == "kd"} == {"train", "balanced"}


def test_inclearn_eeil_distillation_divided_by_heads_is_not_ours() -> None:
    z, z_old, task = tiny.logits(0, 8), tiny.logits(1, 6), tiny.task(2, 2, 2, 2)
    value = EEIL({}).loss(_state(z, z_old), tiny.batch([6, 7, 0, 3]), task)["kd"].value
    each = [kd(z[:, a : a + 2], z_old[:, a : a + 2], 2.0).item() for a in (0, 2, 4)]
    assert value.item() == pytest.approx(sum(each), rel=1e-5)


def test_facil_eeil_bce_on_probabilities_is_not_ours() -> None:
    # The gradient of T^2 KL: T (p - q) / B a logit.
    z, z_old = tiny.logits(0, 5).requires_grad_(), tiny.logits(1, 3)
    value = EEIL({}).loss(_state(z, z_old), tiny.batch([0, 1, 3, 4]), tiny.task(3, 2))["kd"].value
    (gradient,) = torch.autograd.grad(value, z)
    p, q = (z[:, :3] / 2).softmax(1), (z_old / 2).softmax(1)
    assert torch.allclose(gradient[:, :3], 2 * (p - q) / 4, atol=1e-6)


def test_a_constant_on_one_head_changes_no_distillation() -> None:
    z, z_old, stage1, b = tiny.logits(0, 6), tiny.logits(1, 4), tiny.logits(2, 6), tiny.batch([0, 2, 4, 5])
    task = tiny.task(2, 2, 2)
    moved = z + torch.tensor([0.0, 0.0, 3.0, 3.0, -2.0, -2.0])
    a, c = (EEIL({}).loss(_state(x, z_old), b, task) for x in (z, moved))
    assert torch.allclose(a["kd"].value, c["kd"].value, atol=1e-5)
    assert not torch.allclose(a["ce"].value, c["ce"].value, atol=1e-3)
    a, c = (_balanced({}, _state(x, z_old, stage1), b, task) for x in (z, moved))
    for name in ("kd", "kd_new"):
        assert torch.allclose(a[name].value, c[name].value, atol=1e-5)


def test_ssil_repo_eeil_slices_of_equal_tasks_is_not_ours() -> None:
    z, z_old, stage1 = tiny.logits(0, 8), tiny.logits(1, 6), tiny.logits(2, 8)
    b, task = tiny.batch([0, 5, 6, 7]), tiny.task(5, 1, 2)
    state = _state(z, z_old, stage1)
    value = EEIL({}).loss(state, b, task)["kd"].value
    assert torch.equal(value, grouped_kd(z, z_old, 2.0, ((0, 5), (5, 6))))
    terms = _balanced({}, state, b, task)
    assert torch.equal(terms["kd"].value, grouped_kd(z, stage1, 2.0, ((0, 5), (5, 6))))
    assert torch.equal(terms["kd_new"].value, kd(z[:, 6:], stage1[:, 6:], 2.0))


# Stage 2


def test_stage_2_distils_exactly_one_head_more_than_stage_1() -> None:
    z, z_old, b, task = (
        tiny.logits(0, 7).requires_grad_(),
        tiny.logits(1, 5),
        tiny.batch([0, 4, 5, 6]),
        tiny.task(3, 2, 2),
    )
    state = _state(z, z_old, tiny.logits(2, 7))

    def heads(terms: dict[str, Term]) -> list[bool]:
        total = torch.stack([t.value for name, t in terms.items() if name != "ce"]).sum()
        (gradient,) = torch.autograd.grad(total, z)
        return [bool(gradient[:, a:c].all()) for a, c in task.groups]

    assert heads(EEIL({}).loss(state, b, task)) == [True, True, False]
    assert heads(_balanced({}, state, b, task)) == [True, True, True]


@pytest.mark.parametrize("teacher", ["post_stage1", "previous_task"])
def test_whose_outputs_the_heads_keep_in_stage_2(teacher: str) -> None:
    z, z_old, stage1 = tiny.logits(0, 7), tiny.logits(1, 5), tiny.logits(2, 7)
    b, task = tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    terms = _balanced({"balanced_teacher": teacher}, _state(z, z_old, stage1), b, task)
    target = stage1 if teacher == "post_stage1" else z_old
    assert torch.equal(terms["kd"].value, grouped_kd(z, target, 2.0, ((0, 3), (3, 5))))
    assert torch.equal(terms["kd_new"].value, kd(z[:, 5:], stage1[:, 5:], 2.0))
    assert terms["kd"].weight == terms["kd_new"].weight == 0.25
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))


def test_stage_2_begins_with_no_distillation_to_do() -> None:
    z = tiny.logits(0, 7).requires_grad_()
    terms = _balanced(
        {}, _state(z, tiny.logits(1, 5), z.detach()), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    )
    for name in ("kd", "kd_new"):
        assert terms[name].value.item() == pytest.approx(0.0, abs=1e-6)
        (gradient,) = torch.autograd.grad(terms[name].value, z, retain_graph=True)
        assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)


def test_the_first_task_has_one_stage_and_is_the_plain_one() -> None:
    phases, _ = _default()
    assert [(p.task.index, p.phase.name) for p in phases] == [
        (0, "train"),
        (1, "train"),
        (1, "balanced"),
        (2, "train"),
        (2, "balanced"),
    ]
    assert tiny.run("eeil").results[0].network == tiny.run("finetune").results[0].network
    terms = [[{p.term for p in r.phases if p.phase == n} for n in ("train", "balanced")] for r in
             tiny.run("eeil").results]  # fmt: skip
    assert terms == [[{"ce"}, set()], *[[{"ce", "kd"}, {"ce", "kd", "kd_new"}]] * 2]


def test_the_order_of_a_task() -> None:
    phases, training = _default()
    stage1, stage2 = phases[1:3]
    # Frozen after stage 1, before stage 2; the finished network is the next task's beginning and teacher.
    assert stage1.copy is None
    assert stage2.copy == stage1.after == stage2.before
    assert stage2.after != stage2.before
    assert not training.state.copies
    assert tiny.run("eeil").results[1].network == stage2.after


@pytest.mark.parametrize("selection", ["herding", "random"])
def test_facil_eeil_random_unbalanced_subset_is_not_ours(selection: str) -> None:
    phases, training = _phases({"selection": selection})
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        rows = stage.phase.rows[0].ids
        labels = _labels(training, rows)
        # 10 a class, not as many new as old ones in all.
        assert sorted(labels) == sorted([*range(stage.task.seen)] * 10)
        assert len(set(rows.tolist())) == len(rows)
        stored = {c: ids for c, ids in stage.memory.items() if c < stage.task.old}
        assert rows[: 10 * stage.task.old].tolist() == [i for ids in stored.values() for i in ids]


def test_the_new_images_of_stage_2_are_herded_with_the_network_of_stage_1() -> None:
    checked = []

    def watch(event: Event) -> None:
        if event.phase.name != "balanced" or event.kind != "phase begins":
            return
        view, ids = event.view, event.phase.rows[0].ids
        for c in range(event.task.old, event.task.seen):
            rows = view.rows([c])
            chosen = rows[herding(features_of(event.state.net, view, rows), 10)]
            assert torch.equal(ids[view.labels(ids) == c], chosen)
            checked.append(c)

    training = tiny.train(tiny.configuration("eeil"), watch=watch).training
    assert checked == [3, 4, 5, 6]
    # Exemplars are herded anew from the full data with the finished network.
    for c in (5, 6):
        rows = training.view.rows([c])
        chosen = rows[herding(features_of(training.state.net, training.view, rows), 10)]
        assert torch.equal(training.state.memory.rows[c], chosen)


def test_stage_2_takes_as_many_a_class_as_were_stored_before_the_memory_shrinks() -> None:
    # 40 in all: 13 a class and one more at first (of 14 images each), 8 after the second task.
    phases, training = _phases({"budget": "total", "exemplars_total": 40})
    sizes = {}
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        labels = _labels(training, stage.phase.rows[0].ids)
        counts = {labels.count(c) for c in range(stage.task.seen)}
        assert len(counts) == 1
        sizes[stage.task.index] = counts.pop()
    assert sizes == {1: 13, 2: 8}
    assert sorted(map(len, training.state.memory.rows.values())) == [5, 5, 6, 6, 6, 6, 6]


def test_classes_with_few_images_keep_the_set_balanced() -> None:
    phases, training = _phases({"exemplars_per_class": 5000})
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        labels = _labels(training, stage.phase.rows[0].ids)
        assert {labels.count(c) for c in range(stage.task.seen)} == {tiny.TRAIN}


def test_a_new_class_with_few_images_keeps_the_set_balanced() -> None:
    source = tiny.data()
    last = Training(tiny.configuration("eeil"), source).order[-1]
    kept = (source.train.y != last) | (np.cumsum(source.train.y == last) <= 7)
    fewer = Images(source.train.x[kept].copy(), source.train.y[kept].copy())
    phases, training = _phases(source=dataclasses.replace(source, train=fewer, fingerprint="fewer"))
    assert len(training.view.rows([6])) == 6  # one of the seven is held out
    labels = _labels(training, phases[-1].phase.rows[0].ids)
    assert [labels.count(c) for c in range(7)] == [6] * 7


def test_stage_2_trains_all_parameters_at_a_tenth_of_the_rate_for_its_share_of_epochs() -> None:
    phases, _ = _default()
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        assert stage.phase.params is None
        assert stage.phase.head_rows is None
        assert stage.phase.train_mode
        assert stage.phase.augment
    recipe = EEIL({}).stage2_recipe(tiny.task(2, 2).recipe.replace(epochs=90, lr=0.1, batch=64))  # type: ignore[attr-defined]
    assert (recipe.epochs, recipe.batch, recipe.lr) == (40, 64, pytest.approx(0.01))
    assert recipe.learning_rate(39) == pytest.approx(1e-4)  # stage 1's milestones, scaled
    short = EEIL({"balanced_epochs": 0.1, "balanced_lr": 0.5}).stage2_recipe(recipe.replace(epochs=2))  # type: ignore[attr-defined]
    assert (short.epochs, short.lr) == (1, pytest.approx(0.005))


def test_without_balanced_epochs_there_is_stage_1_alone() -> None:
    alone, _ = _phases({"balanced_epochs": 0.0})
    both, _ = _default()
    assert [(p.task.index, p.phase.name) for p in alone] == [(0, "train"), (1, "train"), (2, "train")]
    assert alone[1].after == both[1].after
    assert tiny.run("eeil", {"balanced_epochs": 0.0}).results[1].network == both[1].after


# Without distillation


def test_without_distillation_both_stages_lose_it_and_no_frozen_network_answers() -> None:
    z, b, task = tiny.logits(0, 7), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    state = _state(z, tiny.logits(1, 5), tiny.logits(2, 7))
    method = EEIL({"distill": False})
    for terms in (method.loss(state, b, task), _balanced({"distill": False}, state, b, task)):
        assert list(terms) == ["ce"]
        assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))
    assert state.teacher is not None
    assert not state.teacher.net.asked
    assert not state.copies["stage1"].net.asked
    phases, _ = _phases({"distill": False})
    assert [p.phase.name for p in phases[1:]] == ["train", "balanced"] * 2
    assert all(p.copy is None for p in phases)


def test_without_distillation_and_stage_2_it_is_replay_bit_for_bit() -> None:
    ours = tiny.run("eeil", {"distill": False, "balanced_epochs": 0.0})
    for a, c in zip(ours.states, tiny.run("replay").states, strict=True):
        assert a.keys() == c.keys()
        assert all(torch.equal(a[name], c[name]) for name in a)


# Gradient noise


def _noise(kind: str, epoch: int, before: int = 0, batch: int = 128, **hp: float) -> list[Tensor]:
    """What the noise adds to the gradients of a net of 5 open classes of 7: head rows, then other weights."""
    state = tiny.fixed_state(tiny.logits(0, 7), memories=EEIL.memories)
    params = [*state.head.rows(), nn.Parameter(torch.zeros(200, 200))]
    for p in params:
        p.grad = torch.ones_like(p)
    task = tiny.task(3, 2)
    on_grad = EEIL({"grad_noise": kind, **hp}).noise(state, task, before)
    on_grad(params, epoch, batch, stream(0, "a step"))
    return [p.grad - torch.ones_like(p) for p in params if p.grad is not None]


@pytest.mark.parametrize(
    ("epoch", "before", "expected"),
    [(0, 0, 0.3 / 2**0.55), (1, 0, 0.3 / 3**0.55), (8, 0, 0.3 / 10**0.55), (2, 40, 0.3 / 44**0.55)],
)
def test_the_deviation_of_the_noise_decays_and_counts_on_in_stage_2(
    epoch: int, before: int, expected: float
) -> None:
    noise = _noise("mean_grad", epoch, before)[-1]
    assert noise.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * expected
    wide = _noise("mean_grad", epoch, before, grad_noise_eta=0.6, grad_noise_gamma=1.0)[-1]
    assert wide.std().item() == pytest.approx(0.6 / (2 + before + epoch), rel=0.02)


def test_facil_eeil_noise_on_the_mean_gradient_is_a_choice_and_not_ours() -> None:
    summed, mean = _noise("sum_grad", 0)[-1], _noise("mean_grad", 0)[-1]
    assert summed.std().item() == pytest.approx(0.0016, rel=0.02)  # the official effective deviation
    assert torch.allclose(128 * summed, mean, atol=1e-4)
    short = _noise("sum_grad", 0, batch=32)[-1]  # a smaller last batch
    assert torch.allclose(32 * short, mean, atol=1e-4)


def test_the_noise_leaves_rows_of_classes_to_come_alone() -> None:
    weight, bias, other = _noise("mean_grad", 0)
    for rows in (weight, bias):
        assert rows[:5].all()
        assert not rows[5:].any()
    assert (other != 0).float().mean() > 0.99
    for kind in ("sum_grad", "mean_grad"):
        for t, state in enumerate(tiny.run("eeil", {"grad_noise": kind}).states):
            seen = sum(tiny.SIZES[: t + 1])
            assert not state["net.head.weight"][seen:].any()
            assert not state["net.head.bias"][seen:].any()


def test_the_noise_spares_the_first_task_and_reaches_both_stages() -> None:
    phases, _ = _phases({"grad_noise": "mean_grad"})
    assert [p.phase.on_grad is not None for p in phases] == [False, True, True, True, True]
    for seen, before in zip(phases[1:], (0, 2, 0, 2), strict=True):  # two epochs of stage 1 count
        weight = nn.Parameter(torch.zeros(200, 200))
        weight.grad = torch.zeros_like(weight)
        seen.phase.on_grad([weight], 0, 16, stream(0, "a step"))  # type: ignore[misc]
        assert weight.grad.std().item() == pytest.approx(0.3 / (2 + before) ** 0.55, rel=0.02)
    plain, _ = _default()
    assert all(p.phase.on_grad is None for p in plain)
    assert phases[0].after == plain[0].after
    assert phases[1].after != plain[1].after


def test_equal_seeds_give_equal_noise() -> None:
    a, b = (_phases({"grad_noise": "mean_grad"})[0] for _ in range(2))
    assert [p.after for p in a] == [p.after for p in b]
    other, _ = _phases({"grad_noise": "mean_grad"}, seed=1)
    assert other[1].after != a[1].after


# What is recorded


def test_a_head_of_one_class_is_recorded() -> None:
    assert EEIL({}).note(tiny.task(3)) is None
    assert EEIL({}).note(tiny.task(3, 2)) is None
    assert EEIL({}).note(tiny.task(3, 1)) is not None
    assert EEIL({}).note(tiny.task(1, 3)) is not None
    assert EEIL({"distill": False}).note(tiny.task(3, 1)) is None
    z = tiny.logits(0, 4).requires_grad_()
    terms = _balanced(
        {}, _state(z, tiny.logits(1, 3), tiny.logits(2, 4)), tiny.batch([0, 1, 3, 3]), tiny.task(3, 1)
    )
    assert terms["kd_new"].value.item() == 0.0
    assert torch.autograd.grad(terms["kd_new"].value, z)[0].isfinite().all()


def test_unequal_tasks_run_to_the_end() -> None:
    for scenario in ({"base": 4, "increments": [1, 2]}, {"base": 1, "increments": [4, 2]}):
        phases, training = _phases(scenario=scenario)
        assert training.finished
        for stage in [p for p in phases if p.phase.name == "balanced"]:
            labels = _labels(training, stage.phase.rows[0].ids)
            assert {labels.count(c) for c in range(stage.task.seen)} == {10}
