"""EEIL's second stage: its distillation and its balanced set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.exemplars import features_of
from cl_core.blocks.losses import grouped_kd, kd
from cl_core.images.dataset import Images
from cl_core.memory import herding
from cl_core.task import Term
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from tests import tiny
from tests.cl_core.methods.eeil_inputs import (
    EEIL,
    balanced_terms,
    default_run,
    given_state,
    labels_of,
    recorded_phases,
)


def test_stage_2_distils_exactly_one_head_more_than_stage_1() -> None:
    z, z_old, b, task = (
        tiny.logits(0, 7).requires_grad_(),
        tiny.logits(1, 5),
        tiny.batch([0, 4, 5, 6]),
        tiny.task(3, 2, 2),
    )
    state = given_state(z, z_old, tiny.logits(2, 7))

    def heads(terms: dict[str, Term]) -> list[bool]:
        total = torch.stack([t.value for name, t in terms.items() if name != "ce"]).sum()
        (gradient,) = torch.autograd.grad(total, z)
        return [bool(gradient[:, a:c].all()) for a, c in task.groups]

    assert heads(EEIL({}).loss(state, b, task)) == [True, True, False]
    assert heads(balanced_terms({}, state, b, task)) == [True, True, True]


@pytest.mark.parametrize("teacher", ["post_stage1", "previous_task"])
def test_whose_outputs_the_heads_keep_in_stage_2(teacher: str) -> None:
    z, z_old, stage1 = tiny.logits(0, 7), tiny.logits(1, 5), tiny.logits(2, 7)
    b, task = tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    terms = balanced_terms({"balanced_teacher": teacher}, given_state(z, z_old, stage1), b, task)
    target = stage1 if teacher == "post_stage1" else z_old
    assert torch.equal(terms["kd"].value, grouped_kd(z, target, 2.0, ((0, 3), (3, 5))))
    assert torch.equal(terms["kd_new"].value, kd(z[:, 5:], stage1[:, 5:], 2.0))
    assert terms["kd"].weight == terms["kd_new"].weight == 0.25
    assert torch.equal(terms["ce"].value, F.cross_entropy(z, b.y))


def test_stage_2_begins_with_no_distillation_to_do() -> None:
    z = tiny.logits(0, 7).requires_grad_()
    terms = balanced_terms(
        {}, given_state(z, tiny.logits(1, 5), z.detach()), tiny.batch([0, 4, 5, 6]), tiny.task(3, 2, 2)
    )
    for name in ("kd", "kd_new"):
        assert terms[name].value.item() == pytest.approx(0.0, abs=1e-6)
        (gradient,) = torch.autograd.grad(terms[name].value, z, retain_graph=True)
        assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)


def test_the_first_task_has_one_stage_and_is_the_plain_one() -> None:
    phases, _ = default_run()
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
    phases, training = default_run()
    stage1, stage2 = phases[1:3]
    # Frozen after stage 1, before stage 2; the finished network is the next task's beginning and teacher.
    assert stage1.copy is None
    assert stage2.copy == stage1.after == stage2.before
    assert stage2.after != stage2.before
    assert not training.state.copies
    assert tiny.run("eeil").results[1].network == stage2.after


@pytest.mark.parametrize("selection", ["herding", "random"])
def test_facil_eeil_random_unbalanced_subset_is_not_ours(selection: str) -> None:
    phases, training = recorded_phases({"selection": selection})
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        rows = stage.phase.rows[0].ids
        labels = labels_of(training, rows)
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
    phases, training = recorded_phases({"budget": "total", "exemplars_total": 40})
    sizes = {}
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        labels = labels_of(training, stage.phase.rows[0].ids)
        counts = {labels.count(c) for c in range(stage.task.seen)}
        assert len(counts) == 1
        sizes[stage.task.index] = counts.pop()
    assert sizes == {1: 13, 2: 8}
    assert sorted(map(len, training.state.memory.rows.values())) == [5, 5, 6, 6, 6, 6, 6]


def test_classes_with_few_images_keep_the_set_balanced() -> None:
    phases, training = recorded_phases({"exemplars_per_class": 5000})
    for stage in [p for p in phases if p.phase.name == "balanced"]:
        labels = labels_of(training, stage.phase.rows[0].ids)
        assert {labels.count(c) for c in range(stage.task.seen)} == {tiny.TRAIN}


def test_a_new_class_with_few_images_keeps_the_set_balanced() -> None:
    source = tiny.data()
    last = Training(tiny.configuration("eeil"), source).order[-1]
    kept = (source.train.y != last) | (np.cumsum(source.train.y == last) <= 7)
    fewer = Images(source.train.x[kept].copy(), source.train.y[kept].copy())
    phases, training = recorded_phases(source=dataclasses.replace(source, train=fewer, fingerprint="fewer"))
    assert len(training.view.rows([6])) == 6  # one of the seven is held out
    labels = labels_of(training, phases[-1].phase.rows[0].ids)
    assert [labels.count(c) for c in range(7)] == [6] * 7


def test_stage_2_trains_all_parameters_at_a_tenth_of_the_rate_for_its_share_of_epochs() -> None:
    phases, _ = default_run()
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
    alone, _ = recorded_phases({"balanced_epochs": 0.0})
    both, _ = default_run()
    assert [(p.task.index, p.phase.name) for p in alone] == [(0, "train"), (1, "train"), (2, "train")]
    assert alone[1].after == both[1].after
    assert tiny.run("eeil", {"balanced_epochs": 0.0}).results[1].network == both[1].after
