"""Rows that an evaluation counts, by split, by class and within the task."""

from __future__ import annotations

import math

import pytest
import torch

from cl_core.records import unpack_rows
from tests import tiny


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
