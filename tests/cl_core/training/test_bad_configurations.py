"""Bad requests to the trainer: refused in one line, before any work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.device import resolve_device
from cl_core.training.trainer import Training
from tests import tiny


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
