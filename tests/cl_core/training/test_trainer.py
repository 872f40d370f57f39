"""The trainer: forgetting, agreement with the teacher, configurations as JSON, casts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.training.configuration import Configuration
from cl_core.training.evaluation import teacher_agreement
from cl_core.training.trainer import Training
from tests import tiny

# Fine-tuning forgets, joint learns


def test_fine_tuning_forgets_joint_learns_and_replay_lies_between() -> None:
    recipe = {"epochs": 12, "batch": 8}
    last = {}
    for method in ("finetune", "replay", "joint"):
        finished = tiny.run(method, {"exemplars_per_class": 2} if method == "replay" else None, recipe)
        test = next(e for e in finished.results[-1].evaluations if e.split == "test")
        last[method] = np.trace(test.confusion) / test.confusion.sum()
    assert last["joint"] > 0.8
    assert last["finetune"] < 2 / 7 + 0.02  # its last task has two of seven classes
    assert last["finetune"] < last["replay"] < last["joint"]


# Agreement with the teacher


def test_a_network_agrees_with_a_teacher_that_is_its_copy_and_not_with_a_reversed_one() -> None:
    training = Training(tiny.configuration("lwf"), tiny.data())
    training.next_task()
    task = training.task(1)
    training.method.begin(training.state, task, training.view, Streams(0, 1))
    assert teacher_agreement(training.state, task, training.view, "val") == 1.0
    teacher = training.state.teacher
    assert teacher is not None
    with torch.no_grad():
        for rows in (teacher.net.head.weight, teacher.net.head.bias):
            rows.neg_()  # type: ignore[operator]
    assert teacher_agreement(training.state, task, training.view, "val") == 0.0


def test_the_record_says_how_far_teacher_and_network_agree() -> None:
    bound = tiny.run("lwf", {"kd_weight": 8.0}).results
    assert bound[0].teacher_agreement is None
    assert all(0 <= r.teacher_agreement <= 1 for r in bound[1:] if r.teacher_agreement is not None)
    assert all(r.teacher_agreement is None for r in tiny.run("finetune").results)


# Configurations


def test_a_configuration_survives_json() -> None:
    import json

    for method in METHODS:
        made = tiny.configuration(method, recipe={"base": {"epochs": 3}}, seed=4, class_order="seed:1")
        again = Configuration.from_dict(json.loads(json.dumps(made.to_dict())))
        assert again == made
        assert again.digest(tiny.data()) == made.digest(tiny.data())
    with pytest.raises(BadRequest, match="unknown configuration key 'sed': did you mean 'seed'"):
        Configuration.from_dict({**made.to_dict(), "sed": 1})


def test_gradients_do_not_depend_on_the_casts_of_other_runs_of_the_process() -> None:
    settings = dataclasses.replace(tiny.configuration("finetune"), precision="bfloat16")
    learner = Training(settings, tiny.data()).learner
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=g).requires_grad_()
    x, y = torch.randn(2, 32, 64, generator=g)

    def gradient(between: Callable[[], None]) -> torch.Tensor:
        with learner.autocast():
            first = (x @ weight).float().square().mean()
            between()  # another thread leaves its own context here
            second = (y @ weight).float().square().mean()
        return torch.autograd.grad(first + second, weight)[0]

    assert torch.equal(gradient(lambda: None), gradient(torch.clear_autocast_cache))
