"""Phases whose inputs are fixed: features in place of images, and the same numbers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cl_core.method import Phase, Rows
from cl_core.rng import Streams
from cl_core.state import same_tensors
from cl_core.training.epoch_checkpoint import Record
from cl_core.training.trainer import Training
from tests import tiny


@pytest.mark.parametrize("hp", [{}, {"bias_layers": "per_task"}])
def test_bic_trains_its_correction_to_the_bits_of_reading_every_image(hp: dict[str, str]) -> None:
    def reading(phase: Phase) -> Phase:
        seen.append(phase.fixed)
        return dataclasses.replace(phase, fixed=False)

    seen: list[bool] = []
    own, other = (
        Training(tiny.configuration("bic", hp, recipe={"batch": 5, "epochs": 2}), tiny.data())
        for _ in range(2)
    )
    other.learner = dataclasses.replace(other.learner, adapt=reading)
    for _ in range(own.tasks):
        assert own.next_task().phases == other.next_task().phases
        assert same_tensors(own.state.tensors(), other.state.tensors())
    assert True in seen


def test_a_batch_holds_the_features_of_its_rows() -> None:
    training = Training(tiny.configuration("finetune"), tiny.data())
    training.next_task()
    net, task, view = training.state.net, training.task(0), training.view
    batches = []

    def loss(s, b, t):  # type: ignore[no-untyped-def]
        batches.append(b)
        return training.method.loss(s, b, t)

    head = tuple(training.state.head.rows())
    recipe = task.recipe.replace(epochs=1, batch=8)
    phase = Phase("head", (Rows(task.rows),), recipe, loss, head, None, False, False, fixed=True)
    training.learner.train_phase(phase, task, Streams(0, 0), Record())
    net.eval()
    for batch in batches:
        with torch.no_grad():
            assert torch.equal(batch.x, net(view.images(batch.rows)).features)
        assert torch.equal(batch.y, view.labels(batch.rows))
    assert sorted(torch.cat([b.rows for b in batches]).tolist()) == sorted(task.rows.tolist())


@pytest.mark.parametrize(
    ("alone", "reason"), [(False, "must not train the backbone"), (True, "turn train_mode and augment off")]
)
def test_a_phase_that_changes_its_features_has_no_fixed_inputs(alone: bool, reason: str) -> None:
    training = Training(tiny.configuration("finetune"), tiny.data())
    task, head = training.task(0), tuple(training.state.head.rows())
    params = head if alone else None
    phase = Phase("train", (Rows(task.rows),), task.recipe, training.method.loss, params, fixed=True)
    with pytest.raises(ValueError, match=reason):
        training.learner.train_phase(phase, task, Streams(0, 0), Record())


def test_a_phase_without_rows_has_no_fixed_inputs() -> None:
    training = Training(tiny.configuration("finetune"), tiny.data())
    task, head = training.task(0), tuple(training.state.head.rows())
    phase = Phase("made", (), task.recipe, training.method.loss, head, None, False, False, fixed=True)
    with pytest.raises(ValueError, match="so it needs rows"):
        training.learner.train_phase(phase, task, Streams(0, 0), Record())


def test_a_teacher_refuses_the_features_of_another_network() -> None:
    state = tiny.linear_state(tiny.task(2, 2), {})
    assert state.teacher is not None
    with pytest.raises(ValueError, match="takes images"):
        state.teacher(torch.zeros(2, tiny.DIM))
