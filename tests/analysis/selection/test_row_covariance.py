"""The covariance of what finitely many rows leave in the values of runs, against hand-computed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.lake.results import Results
from analysis.selection.right_answers import RightAnswers
from analysis.selection.row_covariance import covariance, row_covariance
from cl_core.records import pack_rows

METRIC = "average_incremental_accuracy"


@dataclass
class Answers(Results):
    """A lake that has nothing but which rows each run answered right: run -> task -> class -> answers."""

    folder: Path = Path("unused")
    answers: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def rows(
        self,
        table: str,
        runs: Iterable[str] | None = None,
        columns: Sequence[str] = (),
        ordered: bool = True,
    ) -> pa.Table:
        assert table == "classes"
        rows = []
        for run in runs or ():
            for task, classes in enumerate(self.answers.get(run, [])):
                for name, right in classes.items():
                    bits = pack_rows(np.array([answer == "1" for answer in right]))
                    rows.append((run, "val", task, True, name, len(right), bits))
                    rows.append((run, "test", task, True, name, len(right), None))
        rows = rows if ordered else [*rows[::3], *rows[1::3], *rows[2::3]]
        names = ["run", "split", "after_task", "primary", "class_name", "n", "correct_rows"]
        return pa.Table.from_pandas(pd.DataFrame(rows, columns=names))


def test_two_runs_vary_together_as_far_as_they_answer_the_same_rows_right() -> None:
    """Accuracy on four rows of one class: the variance is p (1 - p) / 3, and so is what two runs share."""
    right = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]]) / 4
    found = covariance(right, [slice(0, 4)])
    assert found[0, 0] == pytest.approx(0.25 / 3)
    assert found[0] == pytest.approx([0.25 / 3, 0.25 / 3, -0.25 / 3, 0.0])


def test_rows_of_two_classes_are_independent_and_a_class_always_right_adds_nothing() -> None:
    right = np.array([[1, 0, 1, 1], [1, 0, 1, 0]]) / 4
    apart = covariance(right, [slice(0, 2), slice(2, 4)])
    assert apart == pytest.approx(np.array([[1 / 16, 1 / 16], [1 / 16, 1 / 8]]))


def test_the_metric_weighs_every_task_by_the_rows_seen() -> None:
    """Two tasks of a class each. After the first a row of `a` counts 1/2 x 1/2, after the second 1/2 x 1/4.

    So the two rows of `a` add 3/8 and 1/8 to the metric, and those of `b` 1/8 and 0.
    """
    lake = Answers(answers={"x": [{"a": "10"}, {"b": "10", "a": "11"}]})
    found = row_covariance(RightAnswers(lake, "val"), ["x"], METRIC)
    shares = np.array([[3 / 8, 1 / 8, 1 / 8, 0.0]])
    assert found is not None
    assert found == pytest.approx(covariance(shares, [slice(0, 2), slice(2, 4)]))
    last = row_covariance(RightAnswers(lake, "val"), ["x"], "last_accuracy")
    assert last == pytest.approx(covariance(np.array([[1, 1, 1, 0]]) / 4, [slice(0, 2), slice(2, 4)]))


def test_classes_are_matched_by_name_whatever_order_they_came_in() -> None:
    one = [{"a": "10"}, {"a": "10", "b": "01"}]
    other = [{"b": "01"}, {"b": "01", "a": "10"}]
    found = row_covariance(RightAnswers(Answers(answers={"x": one, "y": other}), "val"), ["x", "y"], METRIC)
    assert found is not None
    assert found[0, 1] > 0
    assert found[0, 0] == pytest.approx(found[1, 1])


def test_nothing_is_said_where_right_answers_are_not_known_or_do_not_add_up_to_the_metric() -> None:
    lake = Answers(answers={"x": [{"a": "10"}]})
    assert row_covariance(RightAnswers(lake, "val"), ["x"], "forgetting") is None
    assert row_covariance(RightAnswers(lake, "val"), ["x", "y"], METRIC) is None
    assert row_covariance(RightAnswers(lake, "test"), ["x"], METRIC) is None


def test_nothing_is_said_where_two_runs_were_measured_on_other_numbers_of_rows() -> None:
    lake = Answers(answers={"x": [{"a": "10"}], "y": [{"a": "101"}]})
    assert row_covariance(RightAnswers(lake, "val"), ["x", "y"], METRIC) is None


def test_cells_read_together_have_what_each_has_when_it_is_read_alone() -> None:
    """Cells with other numbers of rows, one that lacks a run, and one that was not announced."""
    lake = Answers(
        answers={
            "x": [{"a": "10"}, {"b": "011", "a": "11"}],
            "y": [{"b": "101"}, {"a": "01", "b": "001"}],
            "z": [{"a": "1000110010"}, {"c": "10", "a": "1000110011"}],
            "w": [{"c": "01"}, {"c": "11", "a": "0110110010"}],
            "alone": [{"a": "100"}],
        }
    )
    groups = [["x", "y"], ["gone", "x"], ["z", "w"]]
    together = RightAnswers(lake, "val", groups)
    for runs in (*groups, ["alone"], ["w", "z"]):
        found = row_covariance(together, runs, METRIC)
        alone = row_covariance(RightAnswers(lake, "val"), runs, METRIC)
        if "gone" in runs:
            assert found is alone is None
        else:
            np.testing.assert_allclose(found, alone, rtol=1e-12)
