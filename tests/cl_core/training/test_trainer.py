"""The trainer: rows of an epoch, optimisers, frozen rows, bad requests, the Python entry point."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cl_core import run
from cl_core.errors import BadRequest, NonFiniteLoss
from cl_core.images.data_spec import DataSpec
from cl_core.method import METHODS, Phase, Rows
from cl_core.model.runs import Result
from cl_core.nets.network import build_network
from cl_core.recipe import Recipe
from cl_core.records import unpack_rows
from cl_core.rng import Streams
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.configuration import Configuration
from cl_core.training.device import resolve_device
from cl_core.training.evaluation import teacher_agreement
from cl_core.training.optimisation import Epoch, epoch_rows
from cl_core.training.trainer import Training
from cl_core.training.weights import load_init
from tests import tiny

G = Streams(0, 1)


# The rows of an epoch


def _epoch(sources: list[Rows], batch: int, last_batch: str = "keep", epoch: int = 0) -> Epoch:
    return epoch_rows(sources, Recipe(batch=batch, last_batch=last_batch), G, ("train", epoch))


@pytest.mark.parametrize(
    ("n", "batch", "last_batch", "widths", "images"),
    [
        (260, 64, "keep", [64, 64, 64, 64, 4], 260),
        (260, 64, "complete", [64] * 5, 260),
        (260, 64, "drop", [64] * 4, 256),
        (257, 64, "keep", [64, 64, 64, 65], 257),  # one image alone joins the batch before it
        (65, 64, "keep", [65], 65),
        (128, 64, "keep", [64, 64], 128),
        (128, 64, "complete", [64, 64], 128),
        (10, 64, "keep", [10], 10),
        (10, 64, "complete", [10], 10),
        (10, 64, "drop", [10], 10),  # fewer rows than a batch are a step all the same
        (3, 2, "keep", [3], 3),
        (3, 1, "keep", [1, 1, 1], 3),
        (1, 64, "drop", [1], 1),
    ],
)
def test_the_steps_of_an_epoch_and_its_images_by_hand(
    n: int, batch: int, last_batch: str, widths: list[int], images: int
) -> None:
    epoch = _epoch([Rows(torch.arange(n))], batch, last_batch)
    assert [len(rows) for rows in epoch.steps] == widths
    assert epoch.images == images


@given(
    n=st.integers(1, 60),
    batch=st.integers(1, 40),
    epoch=st.integers(0, 3),
    last_batch=st.sampled_from(["keep", "complete", "drop"]),
)
@settings(max_examples=120)
def test_an_epoch_passes_over_the_rows_once(n: int, batch: int, epoch: int, last_batch: str) -> None:
    ids = torch.arange(100, 100 + n)
    found = _epoch([Rows(ids)], batch, last_batch, epoch)
    widths = [len(rows) for rows in found.steps]
    order = torch.cat(found.steps).tolist()
    assert set(widths[:-1]) <= {batch}
    assert len(set(order[:n])) == min(n, len(order))
    assert found.images == min(n, len(order))
    if last_batch == "keep":
        assert sorted(order) == ids.tolist()
        assert min(widths) > 1 or 1 in (n, batch)
        assert max(widths) <= batch + 1
    elif last_batch == "complete":
        assert sorted(order[:n]) == ids.tolist()
        assert order[n:] == order[: len(order) - n]
        assert set(widths) == {min(batch, n)}
    else:
        assert set(widths) == {min(batch, n)}
        assert n - len(order) < batch


@pytest.mark.parametrize("last_batch", ["keep", "drop"])
def test_full_batches_are_the_same_whatever_becomes_of_the_last(last_batch: str) -> None:
    complete = _epoch([Rows(torch.arange(50))], 16, "complete").steps
    other = _epoch([Rows(torch.arange(50))], 16, last_batch).steps
    assert all(torch.equal(a, b) for a, b in zip(complete[:3], other[:3], strict=True))


def test_every_epoch_and_phase_has_its_own_order() -> None:
    def order(g: Streams, *purpose: str | int) -> Any:
        return torch.cat(epoch_rows([Rows(torch.arange(50))], Recipe(batch=10), g, purpose).steps)

    orders = [order(G, *purpose) for purpose in (("train", 0), ("train", 1), ("bias", 0))]
    assert torch.equal(orders[0], order(G, "train", 0))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], order(Streams(0, 2), "train", 0))


@given(
    new=st.integers(1, 50),
    old=st.integers(1, 50),
    width=st.integers(1, 20),
    last_batch=st.sampled_from(["keep", "complete", "drop"]),
)
@settings(max_examples=60)
def test_a_second_source_fills_its_places_of_every_step_and_is_used_evenly(
    new: int, old: int, width: int, last_batch: str
) -> None:
    alone = _epoch([Rows(torch.arange(new), 8)], 128, last_batch)
    sources = [Rows(torch.arange(new), 8), Rows(torch.arange(1000, 1000 + old), width)]
    epoch = _epoch(sources, 128, last_batch)
    replayed = []
    for rows, expected in zip(epoch.steps, alone.steps, strict=True):
        assert torch.equal(rows[:-width], expected)
        assert (rows[-width:] >= 1000).all()
        replayed.append(rows[-width:])
    times = torch.bincount(torch.cat(replayed) - 1000, minlength=old)
    assert times.max() - times.min() <= 1
    assert epoch.images == alone.images + width * len(epoch.steps)


def test_an_empty_second_source_takes_no_place_and_an_empty_first_one_is_a_mistake() -> None:
    empty = Rows(torch.empty(0, dtype=torch.int64), 4)
    assert [len(rows) for rows in _epoch([Rows(torch.arange(6)), empty], 3).steps] == [3, 3]
    with pytest.raises(ValueError, match="at least one row"):
        _epoch([empty], 3)


def test_replay_passes_over_each_exemplar_once_an_epoch() -> None:
    sizes = []
    for passed in tiny.phases("replay"):
        (source,) = passed.phase.rows
        assert len(source.ids) == len(source.ids.unique())
        sizes.append(len(source.ids))
    assert sizes == [3 * 14, 2 * 14 + 3 * 10, 2 * 14 + 5 * 10]


# Optimisation


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


# The first tasks alone


@pytest.mark.parametrize("method", ["icarl", "il2a"])
@pytest.mark.parametrize("until", [1, 2, 3])
def test_a_run_of_the_first_tasks_is_the_whole_run_so_far(method: str, until: int) -> None:
    finished = tiny.train(tiny.configuration(method, until=until))
    assert finished.training.tasks == until == len(finished.results)
    assert finished.training.sizes == tiny.SIZES
    assert finished.traces == tiny.run(method).traces[:until]
    assert [r.checkpoint for r in finished.results] == [
        r.checkpoint for r in tiny.run(method).results[:until]
    ]


def test_a_run_of_the_first_tasks_goes_on_as_the_whole_run(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    tiny.train(tiny.configuration("lwf", until=2), store=store, resume=True)
    whole = Training(tiny.configuration("lwf"), tiny.data(), store, ResumeCheckpoints(store))
    assert whole.done == 2
    assert tiny.trace(whole.next_task()) == tiny.run("lwf").traces[2]


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


# Weights of one's own


@pytest.mark.parametrize("stem", ["backbone.", ""])
def test_a_run_may_start_from_given_weights(tmp_path: Path, stem: str) -> None:
    donor = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 5)
    path = tmp_path / "weights.safetensors"
    save_file({f"{stem}{name}": t for name, t in donor.backbone.state_dict().items()}, path)
    training = Training(tiny.configuration("finetune", init=str(path)), tiny.data())
    for name, t in training.state.net.backbone.state_dict().items():
        assert torch.equal(t, donor.backbone.state_dict()[name])
    assert training.base_key() != Training(tiny.configuration("finetune"), tiny.data()).base_key()
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(path.read_bytes())
    other = Training(tiny.configuration("finetune", init=str(copied)), tiny.data())
    assert other.base_key() == training.base_key()


def test_joint_restarts_from_given_weights(tmp_path: Path) -> None:
    donor = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 5)
    path = tmp_path / "weights.safetensors"
    save_file({f"backbone.{name}": t for name, t in donor.backbone.state_dict().items()}, path)
    training = Training(tiny.configuration("joint", init=str(path)), tiny.data())
    fresh = training.state.fresh().backbone.state_dict()
    assert all(torch.equal(t, donor.backbone.state_dict()[name]) for name, t in fresh.items())


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    net = build_network("convnet-small", (3, 8, 8), 7, "linear", True, 0)
    absent, text, wrong = (tmp_path / n for n in ("absent", "text", "wrong.safetensors"))
    text.write_text("not tensors")
    save_file({"backbone.convs.0.weight": torch.zeros(2)}, wrong)
    for path, rule in ((absent, "readable"), (text, "readable safetensors"), (wrong, "this backbone")):
        with pytest.raises(BadRequest, match=f"init must .*{rule}") as caught:
            load_init(net, str(path))
        assert "\n" not in str(caught.value)


# Bad requests


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"method": "lfw"}, "unknown method 'lfw': did you mean 'lwf'"),
        ({"hp": {"kd_wieght": 1.0}}, "unknown hyperparameter of lwf 'kd_wieght': did you mean 'kd_weight'"),
        ({"hp": {"kd_weight": 100.0}}, "kd_weight must lie in"),
        ({"recipe": {"epoch": 1}}, "unknown recipe key 'epoch': did you mean 'epochs'"),
        ({"recipe": {"base": {"epoch": 1}}}, "unknown recipe key 'epoch'"),
        ({"net": "resnet"}, "unknown net 'resnet'"),
        ({"class_order": "sorted"}, "unknown class order 'sorted'"),
        ({"validation": 1.0}, "validation must lie in"),
        ({"validation": 0.99}, "every class needs at least"),
        (
            {"recipe": {"batch": 1}},
            "net 'convnet-small' has BatchNorm, which needs two images a step, but re",
        ),
        ({"recipe": {"increment": {"batch": 1}}}, "recipe.batch is 1: set it to 2 or more"),
        ({"validation": 0.0, "unsealed": False}, "validation 0 leaves nothing to measure"),
        ({"seed": -1}, "seed must not be negative"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"until": 0}, "until must be a number of tasks from 1 to the 3 of scenario 'B3-2tasks', not 0"),
        ({"until": 4}, "until must be .* from 1 to the 3 .*, not 4"),
        ({"until": True}, "until must be .* not True"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
        ({"device": "cuda"}, "needs a GPU"),
        ({"precision": "int8"}, "precision must be"),
    ],
    ids=str,
)
def test_a_bad_request_is_one_line_before_any_work(changes: dict[str, Any], rule: str) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    settings_ = dataclasses.replace(tiny.configuration("lwf"), **changes)
    with pytest.raises(BadRequest, match=rule) as caught:
        Training(settings_, tiny.data())
    assert "\n" not in str(caught.value)


def test_a_task_of_one_training_row_is_refused_where_the_net_has_batch_norm() -> None:
    spec, source = (
        DataSpec("synthetic", classes=7, per_class=2),
        tiny.data(7, 2),
    )  # one row a class is held out
    lonely = tiny.configuration("lwf", scenario={"base": 5, "increments": [1, 1]}, spec=spec)
    with pytest.raises(BadRequest, match=r"BatchNorm, .* but task 1 has one training row: add im") as caught:
        Training(lonely, source)
    assert "\n" not in str(caught.value)
    Training(dataclasses.replace(lonely, scenario=parse_scenario("B3-2tasks")), source)


def test_a_net_without_batch_norm_takes_one_image_a_step() -> None:
    one = tiny.configuration("lwf", net="tests.tiny:plain_net", recipe={"batch": 1, "epochs": 1}, until=2)
    assert [r.images for r in tiny.train(one).results] == [42, 28]


def test_a_base_larger_than_the_classes_is_refused() -> None:
    with pytest.raises(BadRequest, match="base of 7 classes"):
        Training(tiny.configuration("lwf", scenario="B7-2tasks"), tiny.data())


def test_opening_a_test_split_that_is_not_there_is_refused_before_any_work() -> None:
    source = dataclasses.replace(tiny.data(), test=None)
    with pytest.raises(BadRequest, match="no test split"):
        Training(tiny.configuration("lwf"), source)
    Training(tiny.configuration("lwf", unsealed=False), source)


def test_auto_means_the_gpu_with_bfloat16_or_the_cpu_with_float32() -> None:
    device, precision = resolve_device("auto", "auto")
    assert (device.type, precision) == (
        ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    )
    assert resolve_device("cpu", "auto") == (torch.device("cpu"), "float32")
    assert resolve_device("cpu", "bfloat16")[1] == "bfloat16"


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


# Sealed test rows


def test_test_rows_are_counted_only_when_unsealed() -> None:
    sealed = tiny.train(tiny.configuration("icarl", unsealed=False))
    opened = tiny.run("icarl")
    for a, b in zip(sealed.results, opened.results, strict=True):
        assert {e.split for e in a.evaluations} == {"val"}
        assert [tiny.counts(e) for e in a.evaluations] == [
            tiny.counts(e) for e in b.evaluations if e.split == "val"
        ]
        assert a.network == b.network


def test_without_validation_the_test_split_is_counted_alone() -> None:
    finished = tiny.train(tiny.configuration("replay", validation=0.0))
    assert {e.split for r in finished.results for e in r.evaluations} == {"test"}
    assert finished.results[0].images == 2 * 48


@pytest.mark.parametrize("method", ["finetune", "joint"])
def test_accuracy_within_the_task_is_that_of_answers_among_its_classes(method: str) -> None:
    finished = tiny.run(method)
    training = finished.training
    task = training.task(2)
    test = next(e for e in finished.results[2].evaluations if e.split == "test")
    training.state.net.eval()
    for c, group in ((c, slice(a, b)) for a, b in task.groups for c in range(a, b)):
        rows = training.view.rows([c], "test")
        with torch.no_grad():
            z = training.method.scores(training.state, training.view.images(rows, "test"), task)["head"]
        answers = z[:, group].argmax(1) + group.start
        assert test.correct_within_task[c] == (answers == c).sum().item()
        assert unpack_rows(test.correct_rows[c], len(rows)).tolist() == (z.argmax(1) == c).tolist()
        assert test.confusion[c].tolist() == torch.bincount(z.argmax(1), minlength=7).tolist()
        assert test.mean_true_score[c] == pytest.approx(z[:, c].double().mean().item(), rel=1e-6)
        others = z.double().clone()
        others[:, c] = -math.inf
        assert test.mean_other_score is not None
        assert test.mean_other_score[c] == pytest.approx(others.amax(1).mean().item(), rel=1e-6)


# Python


@pytest.fixture(scope="module")
def result() -> Result:
    recipe = {"epochs": 2, "batch": 16}
    return run("replay", tiny.data(), "B3-2tasks", hp={"exemplars_per_class": 5}, recipe=recipe, threads=1)


def test_run_gives_metrics_as_fractions(result: Result) -> None:
    assert result.sizes == (3, 2, 2)
    assert len(result.class_names) == 7
    assert [c.shape for c in result.confusions()] == [(3, 3), (5, 5), (7, 7)]
    matrix = result.accuracy_matrix()
    assert matrix.shape == (3, 3)
    assert np.isnan(matrix[0, 1:]).all()
    assert np.nanmax(matrix) <= 1
    step = [np.trace(c) / c.sum() for c in result.confusions()]
    assert result.average_incremental_accuracy == pytest.approx(np.mean(step))
    assert result.last_accuracy == pytest.approx(step[-1])
    best = matrix[:2].max(axis=0)
    expected = np.mean([np.nanmax(matrix[:2, 0]) - matrix[2, 0], matrix[1, 1] - matrix[2, 1]])
    assert result.forgetting == pytest.approx(expected)
    assert len(best) == 3


def test_run_refuses_to_show_what_was_not_counted(result: Result) -> None:
    with pytest.raises(BadRequest, match="no counts of split 'test'"):
        result.confusions("test")
    with pytest.raises(BadRequest, match="classifier 'nearest-mean'"):
        result.metrics(classifier="nearest-mean")


def test_run_equals_the_run_of_a_study(result: Result) -> None:
    recipe = {"epochs": 2, "batch": 16}
    settings_ = dataclasses.replace(
        tiny.configuration("replay", {"exemplars_per_class": 5}), recipe=recipe, unsealed=False
    )
    assert [r.network for r in tiny.train(settings_).results] == [r.network for r in result.tasks]


def test_a_run_of_one_task_has_no_forgetting() -> None:
    one = run("finetune", tiny.data(), "B0-1tasks", recipe={"epochs": 1}, threads=1)
    assert one.forgetting is None
    assert one.last_accuracy == one.average_incremental_accuracy


def test_arrays_are_enough() -> None:
    from cl_core import Data

    source = tiny.data()
    x, y = source.train.x[:48].transpose(0, 3, 1, 2) / np.float32(255), source.train.y[:48]
    own = Data.from_arrays(x, y, recipe={"epochs": 1, "batch": 8, "lr": 0.05}, net="convnet-small")
    assert run("lwf", own, "B1-2tasks", threads=1).sizes == (1, 1, 1)


# Checkpoints of the base


def test_training_the_base_alone_publishes_what_a_run_would(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    settings_ = tiny.configuration("bic")
    Training(settings_, tiny.data(), store).train_base()
    finished = tiny.train(settings_, store=store)
    assert finished.results[0].shared
    assert finished.traces == tiny.run("bic").traces
    with pytest.raises(ValueError, match="needs a store"):
        Training(settings_, tiny.data()).train_base()


def test_waiting_for_another_process_that_trains_the_base_is_no_time_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(CheckpointStore):
        @contextlib.contextmanager
        def lock(self, key: str) -> Iterator[None]:
            clock["now"] += 1000.0
            with super().lock(key):
                yield

    clock = {"now": 0.0}

    def tick() -> float:
        clock["now"] += 1.0
        return clock["now"]

    monkeypatch.setattr(time, "perf_counter", tick)
    assert tiny.train(tiny.configuration("lwf", until=1), store=Slow(tmp_path)).results[0].seconds == 1.0
    assert clock["now"] > 1000


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_what_a_process_pays_once_is_paid_before_the_clock_of_a_task(optimizer: str) -> None:
    # Both were inside the first task's seconds: torch's compiler, and scikit-learn for one file.
    code = f"""
import sys
from cl_core.training.configuration import Configuration
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.trainer import Training
spec = DataSpec("digits", per_class=20)
recipe = {{"epochs": 1, "optimizer": "{optimizer}"}}
one = Configuration("icarl", spec, parse_scenario("B0-5tasks"), recipe=recipe, device="cpu", threads=1)
training = Training(one, load(spec))
before = set(sys.modules)
training.next_task()
print(sorted(set(sys.modules) - before), "torch._dynamo" in before, "sklearn" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] True False"


def test_the_seconds_of_a_shared_stage_are_those_of_its_training(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first = tiny.train(tiny.configuration("lwf"), store=store).results[0]
    second = tiny.train(tiny.configuration("replay"), store=store).results[0]
    assert second.shared
    assert second.seconds == first.seconds > 0
    assert second.images == first.images
