"""BiC's validation images: how many, which, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.view import View
from cl_core.nets.network import LinearHead, Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training.checks import check
from cl_core.training.trainer import Training
from tests import tiny
from tests.cl_core.methods.bic_inputs import BiC, recorded_phases


@pytest.mark.parametrize(
    "hp",
    [
        {},
        {"val_fraction": 0.3},
        {"budget": "total", "exemplars_total": 60},
        {"budget": "total", "exemplars_total": 19},
        {"budget": "total", "exemplars_total": 4000, "val_fraction": 0.3},
    ],
    ids=str,
)
def test_validation_images_are_equally_many_a_class_and_never_trained_on(hp: dict[str, Any]) -> None:
    phases = recorded_phases(hp=hp)
    held_before: set[int] = set()
    for task, phase, memories in phases:
        val = memories["validation"]
        if phase.name == "train":
            trained = set(phase.rows[0].ids.tolist())
            held = {row for rows in val.values() for row in rows.tolist()}
            if task.index:
                assert sorted(val) == list(range(task.seen))
                assert not trained & held
                # One that was let go is trained on only as an exemplar.
                kept = {row for rows in memories["exemplars"].values() for row in rows.tolist()}
                assert trained & held_before <= kept
            held_before |= held
        else:
            assert {len(rows) for rows in val.values()} == {len(val[0])}
            assert len(val[0]) >= 1
            assert sorted(phase.rows[0].ids.tolist()) == sorted(torch.cat(list(val.values())).tolist())


def _sizes(
    classes: tuple[int, ...], images: list[int], hp: dict[str, Any]
) -> list[tuple[dict[int, int], int, dict[int, int], dict[int, int]]]:
    """For each task: validation images of a class in training, those of stage 2, and after the task exemplars
    and validation images of a class. Nothing trains: the counts do not depend on it."""
    y = np.repeat(np.arange(len(images)), images)
    data = Data.from_arrays(np.zeros((len(y), 1, 1, 1), np.uint8), y, name="blank")
    view = View(data, range(len(images)), 0.0, torch.device("cpu"))

    def net() -> Network:
        return Network(torch.nn.Flatten(), LinearHead(1, len(images)))

    method = BiC({"budget": "total", "selection": "random", **hp})
    state, out = method.build(net), []
    for index in range(len(classes)):
        sizes = classes[: index + 1]
        task = Task(index, sizes, view.rows(range(sum(sizes[:-1]), sum(sizes))), Recipe())
        g = Streams(0, index)
        method.begin(state, task, view, g)
        validation = state.memories["validation"]
        during = {c: len(rows) for c, rows in validation.rows.items()}
        stage2 = [len(p.rows[0].ids) for p in method.phases(state, task, view, g) if p.name == "bias"]
        method.end(state, task, view, g)
        state.drop_local()
        kept = {c: len(rows) for c, rows in state.memory.rows.items()}
        rows = torch.cat([state.memory.ids(), validation.ids()])
        assert len(rows.unique()) == len(rows)
        out.append((during, sum(stage2), kept, {c: len(held) for c, held in validation.rows.items()}))
    return out


def test_validation_images_are_sized_by_the_old_classes_before_a_task_is_trained() -> None:
    # 2000 in all, a tenth of them for validation: 20 a class of 10 old ones, then 10 of 20, then 6 of 30.
    first, second, third = _sizes((10, 10, 10), [250] * 30, {"exemplars_total": 2000})
    assert first == ({}, 0, dict.fromkeys(range(10), 180), dict.fromkeys(range(10), 20))
    assert second[:2] == (dict.fromkeys(range(20), 20), 400)
    assert second[2:] == (dict.fromkeys(range(20), 90), dict.fromkeys(range(20), 10))
    assert third[:2] == (dict.fromkeys(range(30), 10), 300)
    assert (sum(third[2].values()), set(third[3].values())) == (2000 - 180, {6})


@given(
    total=st.integers(16, 120),
    classes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.3),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_never_exceeded_and_no_part_of_it_is_idle(
    total: int, classes: list[int], fraction: float
) -> None:
    total = max(total, 2 * sum(classes))
    hp = {"exemplars_total": total, "val_fraction": fraction}
    before: dict[int, int] = {}
    for during, _, exemplars, validation in _sizes(tuple(classes), [130] * sum(classes), hp):
        if during:  # what is stored while a task is trained is of old classes
            assert sum(before.values()) + sum(during[c] for c in before) == total
        assert sum(exemplars.values()) + sum(validation.values()) == total
        assert len(set(validation.values())) == 1
        assert min(*exemplars.values(), *validation.values()) >= 1
        before = exemplars


@given(images=st.lists(st.integers(2, 9), min_size=6, max_size=6), total=st.integers(12, 60))
@settings(max_examples=60, deadline=None)
def test_classes_of_few_images_keep_one_to_train_on_and_one_for_validation(
    images: list[int], total: int
) -> None:
    hp = {"exemplars_total": total, "val_fraction": 0.3}
    for during, stage2, exemplars, validation in _sizes((2, 1, 3), images, hp):
        assert all(1 <= held < images[c] for c, held in during.items())
        assert stage2 == len(during) * min(during.values(), default=0)
        assert len(set(validation.values())) == 1
        assert min(*exemplars.values(), *validation.values()) >= 1
        assert sum(exemplars.values()) + sum(validation.values()) <= total


def test_a_class_of_one_training_image_is_refused_before_any_work() -> None:
    one = tiny.configuration("bic", spec=DataSpec("synthetic", classes=7, per_class=2))
    with pytest.raises(BadRequest, match=r"bic needs 2 training images of every class, .* has 1;") as caught:
        Training(one, tiny.data(7, 2))
    assert "\n" not in str(caught.value)
    Training(dataclasses.replace(one, method="icarl", hp={}), tiny.data(7, 2))


def test_every_new_class_keeps_images_to_train_on_however_large_the_memory() -> None:
    hp = {"exemplars_per_class": 5000, "val_fraction": 0.3}
    for task, phase, memories in recorded_phases(hp=hp):
        if phase.name == "train" and task.index:
            for c in range(task.old, task.seen):
                assert len(memories["validation"][c]) == int(0.3 * tiny.TRAIN) == 4
            new = set(task.rows.tolist()) & set(phase.rows[0].ids.tolist())
            assert len(new) == 2 * (tiny.TRAIN - 4)


def test_the_number_of_validation_images_is_the_floor_of_the_share_and_at_least_one() -> None:
    for hp, held, kept in (
        ({}, 1, 9),  # 10 exemplars a class, 0.1 of them
        ({"val_fraction": 0.3}, 3, 7),
        ({"exemplars_per_class": 2}, 1, 1),
        ({"exemplars_per_class": 5}, 1, 4),
    ):
        state = tiny.run("bic", hp).states[-1]
        for c in range(tiny.CLASSES):
            assert len(state[f"memory.validation.{c}"]) == held
            assert len(state[f"memory.exemplars.{c}"]) == kept


def test_defect_facil_bic_takes_the_first_images_and_cuts_the_first_task() -> None:
    finished = tiny.run("bic", {"val_fraction": 0.3})
    view = finished.training.view
    taken = [finished.states[-1][f"memory.validation.{c}"].tolist() for c in range(tiny.CLASSES)]
    first = [view.rows([c])[:3].tolist() for c in range(tiny.CLASSES)]
    assert sum(sorted(a) == b for a, b in zip(taken, first, strict=True)) <= 1
    task, phase, _ = recorded_phases()[0]
    assert task.index == 0
    assert sorted(phase.rows[0].ids.tolist()) == sorted(view.rows(range(3)).tolist())


def test_the_first_task_has_no_stage_2_and_is_the_plain_one() -> None:
    assert [(task.index, phase.name) for task, phase, _ in recorded_phases()] == [
        (0, "train"),
        (1, "train"),
        (1, "bias"),
        (2, "train"),
        (2, "bias"),
    ]
    assert tiny.run("bic").results[0].network == tiny.run("finetune").results[0].network
    terms = [{p.term for p in r.phases} for r in tiny.run("bic").results]
    assert terms == [{"ce"}, *[{"ce", "kd", "bias_ce", "beta_l2"}] * 2]


def test_a_memory_of_one_image_a_class_has_no_room_for_validation() -> None:
    with pytest.raises(BadRequest, match="exemplars_per_class must leave every class 2"):
        check(tiny.configuration("bic", {"exemplars_per_class": 1}), tiny.data())
