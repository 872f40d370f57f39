"""The Python entry point `cl_core.run` and its result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cl_core import run
from cl_core.errors import BadRequest
from cl_core.model.runs import Result
from tests import tiny


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
