"""PASS and PRAKA alike: rotated views, prototypes that pass both heads, one head that answers."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.state import State
from cl_core.task import Batch, Task
from cl_core.training.trainer import Training
from tests import tiny

SIDE_ROWS = {"pass": 3, "praka": 4}  # rows of the side head a class
TERMS = {"pass": ["ce", "prototype"], "praka": ["joint", "ce", "aka", "prototype"]}  # besides the distance


class Second(NamedTuple):
    """A method in its second task: state, batch and task."""

    name: str
    state: State
    batch: Batch
    task: Task


@pytest.fixture(params=SIDE_ROWS)
def second(request: pytest.FixtureRequest) -> Second:
    task, name = tiny.task(3, 2), request.param
    state = tiny.linear_state(task, {"rotated": SIDE_ROWS[name]}, radius=torch.tensor(0.5))
    return Second(name, state, tiny.drawn_batch(METHODS[name]({}), state, task, [3, 4, 4]), task)


def test_prototypes_reach_both_heads_and_not_the_backbone(second: Second) -> None:
    name, state, batch, task = second
    METHODS[name]({}).loss(state, batch, task)["prototype"].value.backward()
    assert all(p.grad is None for p in state.net.backbone.parameters())
    assert tiny.gradient(state.net.side["rotated"])[: 5 * SIDE_ROWS[name]].any()
    assert tiny.gradient(state.net.head)[:5].any()


def test_student_and_teacher_see_the_same_rotated_views_once(second: Second) -> None:
    name, state, batch, task = second
    seen: list[tuple[str, Tensor]] = []
    assert state.teacher is not None
    for who, net in (("student", state.net), ("teacher", state.teacher.net)):
        net.backbone.register_forward_pre_hook(lambda _, inputs, who=who: seen.append((who, inputs[0])))
    METHODS[name]({}).loss(state, batch, task)
    assert [who for who, _ in seen] == ["student", "teacher"]
    assert seen[0][1] is seen[1][1]
    assert torch.equal(seen[0][1], tiny.turned(batch.x))


def test_without_distillation_only_the_feature_distance_goes_and_the_teacher_is_not_asked(
    second: Second,
) -> None:
    name, state, batch, task = second
    full = METHODS[name]({}).loss(state, batch, task)
    assert state.teacher is not None
    state.teacher.register_forward_pre_hook(lambda *_: pytest.fail("the teacher was asked"))
    without = METHODS[name]({"distill": False}).loss(state, batch, task)
    # The distillation between PRAKA's own heads stays.
    assert list(without) == TERMS[name]
    assert list(full) == [*TERMS[name], "feature_kd"]
    assert all(torch.equal(without[term].value, full[term].value) for term in without)


@pytest.mark.parametrize("name", SIDE_ROWS)
def test_only_the_head_of_unrotated_images_answers(name: str) -> None:
    training = Training(tiny.configuration(name), tiny.data())
    training.next_task()
    task, s = training.task(0), training.state
    s.net.eval()
    x = training.view.images(task.rows[:6])
    with torch.no_grad():
        before = training.method.scores(s, x, task)
        for p in s.net.side.parameters():
            p.normal_(generator=torch.Generator().manual_seed(0))
        after = training.method.scores(s, x, task)
        for p in s.net.head.parameters():
            p.add_(1.0)
        moved = training.method.scores(s, x, task)
    assert before.keys() == {"head"} == {training.method.primary()}
    assert torch.equal(before["head"], after["head"])
    assert not torch.equal(before["head"], moved["head"])


@pytest.mark.parametrize("name", SIDE_ROWS)
def test_images_must_be_square_to_be_turned(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} turns images by 90 degrees"):
        METHODS[name]({}).check((3, 2), (3, 8, 6))
    METHODS[name]({}).check((3, 2), (3, 8, 8))
