"""Task checkpoints: what decides their keys, and runs that take trained tasks over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cl_core.training.checkpoint_keys import task_checkpoint_key
from cl_core.training.checkpoints import CheckpointStore
from tests import tiny

ALIKE: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "the rule that answers": ("icarl", {}, {"classifier": "head"}, 2),
    "the images of class means": ("icarl", {}, {"flip_means": False}, 2),
    "what acts from the third task": ("lwf", {}, {"kd_softmax": "per_task"}, 1),
    "another branch": ("icarl", {}, {"kd_weight": 1.0}, 2),
}
APART: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "what acts from the third task": ("lwf", {}, {"kd_softmax": "per_task"}, 2),
    "the buffer": ("icarl", {}, {"exemplars_per_class": 5}, 1),
    "the ranking": ("replay", {}, {"selection": "random"}, 1),
    "the loss": ("icarl", {}, {"old_weight": 2.0}, 1),
}


def key(method: str, hp: dict[str, Any], task: int, **rest: Any) -> str:
    return task_checkpoint_key(tiny.configuration(method, hp, **rest), tiny.data(), "here", task)


@pytest.mark.parametrize("what", ALIKE)
def test_the_key_of_a_task_does_not_follow(what: str) -> None:
    method, hp, other, task = ALIKE[what]
    assert key(method, hp, task) == key(method, other, task)


@pytest.mark.parametrize("what", APART)
def test_the_key_of_a_task_follows(what: str) -> None:
    method, hp, other, task = APART[what]
    assert key(method, hp, task) != key(method, other, task)


def test_the_key_of_a_task_follows_recipe_class_order_seed_and_task() -> None:
    own = key("lwf", {}, 1)
    assert key("lwf", {}, 2) != own
    for rest in ({"recipe": {"increment": {"lr": 0.01}}}, {"class_order": "seed:1"}, {"seed": 1}):
        assert key("lwf", {}, 1, **rest) != own
    assert key("lwf", {}, 1, unsealed=False) == own


def test_two_rules_that_answer_train_once_and_two_buffers_twice(tmp_path: Path) -> None:
    store, trained = CheckpointStore(tmp_path), 0
    for exemplars in (5, 10):
        for classifier in ("nearest-mean", "head"):
            hp = {"exemplars_per_class": exemplars, "classifier": classifier}
            run = tiny.train(tiny.configuration("icarl", hp), store=store, reuse=store)
            trained += sum(result.images for result in run.results if not result.shared)
            alone = tiny.run("icarl", hp)
            assert run.traces == alone.traces
            assert [r.seconds > 0 for r in run.results] == [True] * 3
    base, *increments = [result.images for result in tiny.run("icarl").results]
    assert trained == base + sum(increments) + sum(
        r.images for r in tiny.run("icarl", {"exemplars_per_class": 5}).results[1:]
    )
