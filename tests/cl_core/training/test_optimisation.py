"""Optimisation: steps, losses of an epoch, schedules, recipes of base and increment."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from cl_core.errors import NonFiniteLoss
from cl_core.method import Phase, Rows
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.training.optimisation import epoch_rows
from cl_core.training.trainer import Training
from tests import tiny


def test_an_epoch_of_one_batch_is_one_step_of_plain_sgd() -> None:
    recipe = {"epochs": 1, "batch": 64, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    source = dataclasses.replace(tiny.data(), augment=type(tiny.data().augment)())
    settings_ = tiny.configuration("finetune", recipe=recipe)
    training = Training(settings_, source)
    task, g = training.task(0), Streams(0, 0)
    expected = training.method.build(training.state.fresh)
    training.method.begin(expected, task, training.view, g)
    (rows,) = epoch_rows([Rows(task.rows)], Recipe(batch=64), g, ("train", 0)).steps
    net = expected.net.train()
    loss = torch.nn.functional.cross_entropy(
        net(training.view.images(rows)).logits, training.view.labels(rows)
    )
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * (p.grad + 0.01 * p)
    result = training.next_task()
    assert result.phases[0].value == pytest.approx(loss.item(), rel=1e-6)
    for (name, a), b in zip(net.named_parameters(), training.state.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    # Nothing trains at this rate. Batches of 40 and 2 weigh 40 and 2; the second task has 28 rows.
    recipe = {"epochs": 1, "batch": 40, "lr": 1e-7, "momentum": 0.0, "weight_decay": 0.0}
    source = dataclasses.replace(tiny.data(), augment=type(tiny.data().augment)())
    losses = []

    def noting(phase: Phase) -> Phase:
        def loss(*args: Any) -> Any:
            terms = phase.loss(*args)
            losses.append((len(args[1].y), float(terms["ce"].value.detach())))
            return terms

        return dataclasses.replace(phase, loss=loss)

    training = Training(tiny.configuration("finetune", recipe=recipe), source)
    training.learner = dataclasses.replace(training.learner, adapt=noting)
    result = training.next_task()
    (a, first), (b, second) = losses
    assert (a, b) == (40, 2)
    assert abs(first - second) > 0.01
    assert result.phases[0].value == pytest.approx((40 * first + 2 * second) / 42, rel=1e-6)


@pytest.mark.parametrize(
    ("method", "hp", "phases"),
    [
        ("finetune", {}, {"train"}),
        ("lwf", {"warmup": 0.5}, {"warmup", "train"}),
        ("bic", {}, {"train", "bias"}),
        ("eeil", {}, {"train", "balanced"}),
        ("lucir", {"cbf": True}, {"train", "balanced"}),
        ("ss_il", {}, {"train"}),
        ("joint", {}, {"train"}),
    ],
)
def test_every_phase_takes_the_study_s_last_batch(method: str, hp: dict[str, Any], phases: set[str]) -> None:
    passed = tiny.phases(method, hp, recipe={"last_batch": "drop", "epochs": 1}, until=2)
    seen = {(p.phase.name, p.phase.recipe.last_batch, p.phase.recipe.batch) for p in passed}
    assert seen == {(name, "drop", 16) for name in phases}


def test_what_becomes_of_the_last_batch_is_counted_and_decides_the_network() -> None:
    # 42, 28 and 28 rows in batches of 16, for two epochs.
    images = {"keep": [84, 56, 56], "complete": [84, 56, 56], "drop": [64, 32, 32]}
    checkpoints, keys = set(), set()
    for last_batch, expected in images.items():
        finished = tiny.run("finetune", recipe={"last_batch": last_batch})
        assert [r.images for r in finished.results] == expected
        assert all(r.recipe["last_batch"] == last_batch for r in finished.results)
        checkpoints.add(finished.results[0].network)
        keys.add(finished.training.base_key())
    assert len(checkpoints) == len(keys) == 3
    parts = {"base": {"last_batch": "drop"}, "increment": {"last_batch": "keep"}}
    apart = tiny.run("finetune", recipe=parts)
    assert [r.images for r in apart.results] == [64, 56, 56]
    assert apart.results[0].network == tiny.run("finetune", recipe={"last_batch": "drop"}).results[0].network


def test_adam_has_coupled_decay_and_adamw_decoupled_decay() -> None:
    results = {}
    for optimizer in ("adam", "adamw"):
        recipe = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1, "batch": 64, "epochs": 1}
        results[optimizer] = tiny.run("finetune", recipe=recipe).states[0]["net.head.weight"]
    assert not torch.allclose(results["adam"], results["adamw"], atol=1e-4)


def test_the_schedule_is_that_of_the_phase_s_epochs() -> None:
    recipe = {"epochs": 4, "schedule": "step", "milestones": [0.5], "gamma": 0.5, "lr": 0.08}
    finished = tiny.run("finetune", recipe=recipe)
    for result in finished.results:
        assert [p.learning_rate for p in result.phases] == [0.08, 0.08, 0.04, 0.04]
        assert [p.epoch for p in result.phases] == [0, 1, 2, 3]


def test_base_and_increment_recipes_concern_their_own_tasks() -> None:
    recipe = {"base": {"epochs": 3}, "increment": {"epochs": 1, "lr": 0.01}}
    results = tiny.run("finetune", recipe=recipe).results
    assert [r.recipe["epochs"] for r in results] == [3, 1, 1]
    assert [len(r.phases) for r in results] == [3, 1, 1]
    assert [r.phases[0].learning_rate for r in results] == [0.05, 0.01, 0.01]


def test_joint_keeps_the_first_task_s_recipe_because_it_restarts() -> None:
    recipe = {"base": {"epochs": 3}, "increment": {"epochs": 1, "lr": 0.01}}
    results = tiny.run("joint", recipe=recipe).results
    assert [(r.recipe["epochs"], r.recipe["lr"], len(r.phases)) for r in results] == [(3, 0.05, 3)] * 3


def test_joint_starts_every_task_from_the_init_stream() -> None:
    first, *others = tiny.phases("joint")
    assert len(others) == 2
    backbone = [name for name in first.before if name.startswith("net.backbone.")]
    assert backbone
    for passed in others:
        assert all(torch.equal(passed.before[name], first.before[name]) for name in backbone)


@pytest.mark.parametrize(("batch", "epochs"), [(16, 1), (42, 2)])
def test_a_network_that_breaks_in_its_last_step_fails_though_every_loss_was_finite(
    batch: int, epochs: int
) -> None:
    recipe = {"lr": 100.0, "weight_decay": 1.0, "epochs": epochs, "batch": batch, "schedule": "constant"}
    training = Training(tiny.configuration("finetune", scenario="B0-1tasks", recipe=recipe), tiny.data())
    with pytest.raises(NonFiniteLoss, match=r"every weight must stay finite: .* in task 0") as caught:
        training.next_task()
    assert "\n" not in str(caught.value)


def test_batch_norm_never_sees_one_image_alone() -> None:
    # 42 rows in batches of 41 would leave one over.
    recipe = {"batch": 41, "epochs": 1}
    finished = tiny.run("finetune", recipe=recipe)
    assert finished.results[0].images == 42
    assert all(math.isfinite(p.value) for r in finished.results for p in r.phases)
