"""The first task that all methods share: what of it is trained, and how well it answers on real images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_core import load
from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.method import METHODS
from cl_core.rng import Streams
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.checks import check
from cl_core.training.shared_base import frozen_backbone, on_heads, takes_the_head
from cl_core.training.trainer import Training
from tests import tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CheckpointStore:
    return CheckpointStore(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_answers_well_on_the_shared_backbone_of_real_digits(
    method: str, store: CheckpointStore
) -> None:
    settings = tiny.configuration(
        method,
        scenario="B5-5tasks",
        spec=DataSpec("digits"),
        recipe={"epochs": 6, "batch": 64},
        shared_base=True,
        until=1,
    )
    result = Training(settings, load("digits"), store).next_task()
    for e in result.evaluations:
        assert np.trace(e.confusion) / e.confusion.sum() > 0.85, e.classifier  # chance is 0.2
    assert len(list(store.root.rglob("*.safetensors"))) == 1


def test_the_base_recipe_is_the_study_s_and_the_increments_keep_the_method_s() -> None:
    settings = tiny.configuration("pass", recipe={"base": {"epochs": 3}}, shared_base=True)
    base, increment = settings.recipes(tiny.data(), METHODS[settings.method](settings.hp))
    assert (base.optimizer, base.epochs) == ("sgd", 3)
    assert increment.optimizer == "adam"
    alone = tiny.configuration("pass", recipe={"base": {"epochs": 3}})
    assert alone.recipes(tiny.data(), METHODS[alone.method](alone.hp))[0].optimizer == "adam"


def test_training_the_base_alone_publishes_the_plain_checkpoint(tmp_path: Path) -> None:
    checkpoints = CheckpointStore(tmp_path)
    Training(tiny.configuration("lucir", shared_base=True), tiny.data(), checkpoints).train_base()
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.stem == tiny.run("finetune").training.base_key()
    finetune = tiny.train(tiny.configuration("finetune"), store=checkpoints)
    assert finetune.results[0].shared
    assert finetune.traces == tiny.run("finetune").traces


def test_the_record_counts_the_shared_network_and_the_heads() -> None:
    plain = tiny.run("finetune").results[0]
    shared = tiny.train(tiny.configuration("icarl", shared_base=True, until=1)).results[0]
    assert shared.images == 2 * plain.images
    assert shared.phases[: len(plain.phases)] == plain.phases


@pytest.mark.parametrize(
    ("method", "hp", "takes"),
    [
        ("lwf", {}, True),
        ("joint", {}, True),
        ("icarl", {"loss": "ce"}, True),
        ("icarl", {}, False),
        ("lucir", {}, False),
        ("pass", {"rotations": 1}, False),
    ],
)
def test_the_plain_head_is_taken_where_the_method_has_the_same(
    method: str, hp: dict[str, Any], takes: bool
) -> None:
    assert takes_the_head(METHODS[method](hp)) is takes


def test_a_phase_on_heads_leaves_the_backbone_out_and_keeps_parameters_of_its_own() -> None:
    training = Training(tiny.configuration("il2a"), tiny.data())
    net, task = training.state.net, training.task(0)
    training.method.begin(training.state, task, training.view, Streams(0, 0))
    (phase,) = training.method.phases(training.state, task, training.view, Streams(0, 0))
    heads = on_heads(phase, net)
    assert heads is not None
    assert (heads.name, heads.train_mode) == ("train-heads", False)
    own = {id(p) for p in (*net.head.parameters(), *training.state.local.values())}
    assert {id(p) for p in heads.params or ()} == own
    backbone = dict(net.backbone.named_parameters())
    assert on_heads(dataclasses.replace(phase, params=tuple(backbone.values())), net) is None
    first = next(iter(backbone.values())).requires_grad_(False)
    with frozen_backbone(net):
        assert not any(p.requires_grad for p in backbone.values())
        assert net.head.weight.requires_grad
    assert [p for p in backbone.values() if not p.requires_grad] == [first]


def test_a_value_that_is_no_yes_or_no_is_refused() -> None:
    with pytest.raises(BadRequest, match="shared_base must be true or false, not 'yes'"):
        check(tiny.configuration("lwf", shared_base="yes"), tiny.data())
