"""The error of counts: by hand, against redraws of rows, and never nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.counting_error import counted, errors, share, weights
from cl_core.metrics import METRICS, accuracy_matrix, summary

COUNTS = [np.array([[30, 20], [10, 40]])]


def test_the_error_of_one_task_is_the_binomial_one_by_hand():
    p = 71 / 102  # 70 of 100 right, one right and one wrong answer added
    expected = math.sqrt(p * (1 - p) / 100)
    assert expected == pytest.approx(0.04600, abs=1e-5)
    found = counted(COUNTS, [2])
    assert found["last_accuracy"].value == pytest.approx(0.7)
    for name in ("last_accuracy", "first_task_accuracy", "average_incremental_accuracy"):
        assert found[name].error == pytest.approx(expected)
    assert share(0.7, 100) == pytest.approx(expected)
    assert (found["forgetting"].value, found["forgetting"].error) == (None, 0.0)


def test_all_right_answers_leave_about_half_a_row_to_one_row_and_a_half():
    for rows in (10, 143, 1000):
        certain = [np.array([[rows, 0], [0, rows]])]
        assert 0.5 / (2 * rows) < errors(certain, [2])["last_accuracy"] < 1.5 / (2 * rows)
        assert share(0.0, rows) == pytest.approx(share(1.0, rows))


def test_rows_that_are_asked_after_every_task_do_not_make_a_mean_over_tasks_surer():
    later = np.zeros((3, 3), dtype=np.int64)
    later[:2, :2] = COUNTS[0]
    later[2, 2] = 1  # one further row
    once = errors(COUNTS, [2])["average_incremental_accuracy"]
    twice = errors([*COUNTS, later], [2, 1])["average_incremental_accuracy"]
    assert twice == pytest.approx(once, rel=0.03)


def test_a_difference_between_tasks_counts_both_as_independent():
    first, then = np.diag([80, 80]) + (20 * np.eye(2)[::-1]).astype(int), np.zeros((3, 3), dtype=np.int64)
    then[:2, :2] = [[50, 50], [50, 50]]
    then[2, 2] = 10
    found = counted([first, then], [2, 1])
    assert found["forgetting"].value == pytest.approx(0.3)
    p = (161 / 202, (0.5 * 210 + 1) / 212)
    assert found["forgetting"].error == pytest.approx(math.sqrt(sum(q * (1 - q) / 200 for q in p)))
    assert found["backward_transfer"].error == pytest.approx(found["forgetting"].error)


def test_a_gap_of_nothing_and_everything_is_no_surer_than_half_a_row_of_the_newest_task():
    """As of fine-tuning; the share of the newest rows stood as one of all rows seen."""
    counts = [np.zeros((2 * (t + 1), 2 * (t + 1)), dtype=np.int64) for t in range(10)]
    for one in counts:
        one[:, -1] = 15  # of each class, all answered as the last one
        one[-2, -1], one[-2, -2] = 0, 15
    found = counted(counts, [2] * 10)["old_new_gap"]
    assert found.value == 1.0
    assert 0.5 / 30 < found.error < 1.5 / 30


@st.composite
def runs(draw):
    """Counts after each task of a run, the same rows of a class asked each time; and its tasks' sizes."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    rows = draw(st.lists(st.integers(1, 30), min_size=sum(sizes), max_size=sum(sizes)))
    out = []
    for task in range(len(sizes)):
        seen = sum(sizes[: task + 1])
        counts = np.zeros((seen, seen), dtype=np.int64)
        for c in range(seen):
            right = draw(st.integers(0, rows[c])) if seen > 1 else rows[c]
            counts[c, c] = right
            counts[c, (c + 1) % seen] += rows[c] - right
        out.append(counts)
    return out, sizes


@given(runs())
def test_every_metric_is_the_weighted_sum_of_accuracies_and_has_an_error(run):
    counts, sizes = run
    ends = np.cumsum(sizes)
    rows = np.array([g.sum() for g in np.split(counts[-1].sum(axis=1), ends[:-1])], dtype=float)
    matrix = accuracy_matrix(counts, sizes)
    weight, found = weights(matrix[None], rows[None]), errors(counts, sizes)
    for name, value in summary(counts, sizes).items():
        assert name in METRICS
        if value is None:
            assert found[name] == 0
            continue
        assert np.nansum(weight[name][0] * np.nan_to_num(matrix)) == pytest.approx(value, abs=1e-12)
        assert 0 < found[name] < 1.5


def test_the_error_is_that_of_rows_drawn_again():
    """Rows that are right together as often as can be: one difficulty each, the same after every task."""
    draw = np.random.default_rng(0)
    sizes, rows = [2, 2, 1], 400
    level = np.array([[0.9, 0, 0], [0.7, 0.8, 0], [0.5, 0.6, 0.9]])
    found: dict[str, list[float]] = {}
    for _ in range(600):
        hard = [draw.random(rows * size) for size in sizes]
        counts = []
        for task in range(3):
            seen = sum(sizes[: task + 1])
            now = np.zeros((seen, seen), dtype=np.int64)
            c = 0
            for k, size in enumerate(sizes[: task + 1]):
                for group in np.split(hard[k], size):
                    right = int((group < level[task, k]).sum())
                    now[c, c] = right
                    now[c, (c + 1) % seen] = rows - right
                    c += 1
            counts.append(now)
        for name, value in summary(counts, sizes).items():
            found.setdefault(name, []).append(value)
    known = errors(counts, sizes)
    for name in ("average_incremental_accuracy", "last_accuracy", "last_accuracy_task_mean"):
        assert known[name] == pytest.approx(np.std(found[name]), rel=0.1)
    for name in ("forgetting", "backward_transfer", "old_new_gap"):
        assert known[name] > 0.9 * np.std(found[name])
