"""The rows of LUCIR's head, and its balanced stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.cosine import imprint
from cl_core.blocks.exemplars import features_of
from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.trainer import Training
from tests import tiny

LUCIR = METHODS["lucir"]


# Rows of the head


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_old_rows_stay_bit_for_bit_and_the_rest_trains(optimizer: str) -> None:
    recipe = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.5}
    for t, phase, before, after in tiny.phases("lucir", recipe=recipe)[1:]:
        assert phase.head_rows == (t.old, t.seen)
        weight = before["net.head.weight"], after["net.head.weight"]
        assert torch.equal(weight[0][: t.old], weight[1][: t.old])
        assert (weight[0][t.old : t.seen] != weight[1][t.old : t.seen]).any(dim=1).all()
        assert not torch.equal(before["net.head.eta"], after["net.head.eta"])


def test_old_rows_train_where_asked_and_in_the_official_form_without_distillation() -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"train_old_head": True}, True),
        ({"distill": False}, False),
        ({"distill": False, "without": "official"}, True),
    ]
    for hp, trains in cases:
        states = tiny.run("lucir", hp).states
        for t in (1, 2):
            old = sum(tiny.SIZES[:t])
            same = torch.equal(states[t]["net.head.weight"][:old], states[t - 1]["net.head.weight"][:old])
            assert same != trains, hp


def _began(hp: dict[str, Any] | None = None) -> tuple[Training, Task, Tensor]:
    """A run whose second task has begun, and its head's rows before."""
    training = Training(tiny.configuration("lucir", hp), tiny.data())
    training.next_task()
    before = training.state.head.weight.detach().clone()
    task = training.task(1)
    training.method.begin(training.state, task, training.view, Streams(0, 1))
    return training, task, before


def test_new_rows_begin_as_the_mean_direction_of_their_class() -> None:
    training, task, before = _began()
    rows = training.state.head.weight.detach()
    assert torch.equal(rows[:3], before[:3])
    assert not rows[5:].any()
    assert training.state.teacher is not None
    teacher = training.state.teacher.net
    length = torch.linalg.vector_norm(before[:3], dim=1).mean()
    for c in range(task.old, task.seen):
        own = training.view.rows([c])
        assert len(own) == tiny.TRAIN  # all images of the class
        mean = F.normalize(features_of(teacher, training.view, own), dim=1).mean(dim=0)
        assert F.cosine_similarity(rows[c], mean, dim=0).item() == pytest.approx(1, abs=1e-5)
        assert torch.linalg.vector_norm(rows[c]).item() == pytest.approx(length.item(), rel=1e-5)


def test_without_imprinting_new_rows_are_random() -> None:
    training, task, _ = _began({"imprint": False})
    rows = training.state.head.weight.detach()[task.old : task.seen].clone()
    imprint(training.state.net, training.view, task)
    assert F.cosine_similarity(rows, training.state.head.weight.detach()[task.old : task.seen]).max() < 0.9
    assert torch.linalg.vector_norm(rows, dim=1).min() > 0


# The balanced checkpoint


def test_the_balanced_stage_trains_the_head_s_rows_alone_on_equally_many_images_a_class() -> None:
    phases = [
        p for p in tiny.phases("lucir", hp={"cbf": True, "exemplars_per_class": 4}) if p[1].name == "balanced"
    ]
    assert [task.index for task, *_ in phases] == [1, 2]
    for task, phase, before, after in phases:
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed == {"net.head.weight"}
        moved = (after["net.head.weight"] != before["net.head.weight"]).any(dim=1)
        assert moved[: task.seen].all()
        assert not moved[task.seen :].any()
        labels = tiny.run("lucir").training.view.labels(phase.rows[0].ids)
        assert labels.bincount().tolist() == [4] * task.seen
    finished = tiny.run("lucir", {"cbf": True})
    assert {p.term for p in finished.results[1].phases if p.phase == "balanced"} == {"ce", "margin"}


def test_the_balanced_stage_has_the_official_schedule_scaled() -> None:
    stage1 = tiny.task(2, 2).recipe.replace(epochs=90, batch=64, weight_decay=1e-4)
    recipe = LUCIR({"cbf": True}).balanced_recipe(stage1)  # type: ignore[attr-defined]
    assert (recipe.epochs, recipe.batch, recipe.momentum, recipe.weight_decay) == (20, 64, 0.9, 1e-4)
    rates = [recipe.learning_rate(e) for e in (0, 9, 10, 19)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert LUCIR({}).balanced_recipe(stage1.replace(epochs=1)).epochs == 1  # type: ignore[attr-defined]


def test_the_exemplars_of_the_balanced_stage_are_those_that_are_kept() -> None:
    task, phase, *_ = next(p for p in tiny.phases("lucir", hp={"cbf": True}) if p[1].name == "balanced")
    kept = [tiny.run("lucir", {"cbf": True}).states[1][f"memory.exemplars.{c}"] for c in range(task.seen)]
    assert torch.equal(phase.rows[0].ids, torch.cat(kept))
