"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_core import metrics
from cl_core.records import columns

WORKED = np.array([[0.9, np.nan, np.nan], [0.6, 0.8, np.nan], [0.5, 0.7, 0.85]])


def counts_with(matrix, rows=100):
    """Confusion counts of one class a task whose accuracy matrix is `matrix`; errors go to the next class."""
    out = []
    for t in range(len(matrix)):
        counts = np.zeros((t + 1, t + 1), dtype=np.int64)
        for k in range(t + 1):
            counts[k, k] = round(matrix[t][k] * rows)
            counts[k, (k + 1) % (t + 1)] += rows - counts[k, k]
        out.append(counts)
    return out


def perfect(sizes, rows=7):
    seen = np.cumsum(sizes)
    return [np.eye(n, dtype=np.int64) * rows for n in seen]


def always_last(sizes, rows=7):
    """Every row is answered with the newest class."""
    out = []
    for n in np.cumsum(sizes):
        counts = np.zeros((n, n), dtype=np.int64)
        counts[:, -1] = rows
        out.append(counts)
    return out


def test_the_worked_matrix_gives_its_published_numbers():
    means = metrics.task_mean_accuracy(WORKED)
    assert means == pytest.approx([0.9, 0.7, 0.68333333])
    assert metrics.average_incremental_accuracy(means) == pytest.approx(0.76111111)
    assert metrics.last_accuracy(means) == pytest.approx(0.68333333)
    assert metrics.forgetting(WORKED) == pytest.approx(0.25)
    assert metrics.backward_transfer(WORKED) == pytest.approx(-0.25)
    assert metrics.learning_accuracy(WORKED) == pytest.approx(0.85)


def test_counts_of_equal_tasks_give_the_worked_numbers_pooled_as_well():
    two = np.array([[90, 10], [20, 80]])
    counts = [np.array([[100]]), two, np.array([[50, 50, 0], [0, 70, 30], [10, 5, 85]])]
    matrix = metrics.accuracy_matrix(counts, (1, 1, 1))
    assert matrix[1, :2] == pytest.approx([0.9, 0.8])
    assert matrix[2] == pytest.approx([0.5, 0.7, 0.85])
    assert np.isnan(matrix[0, 1:]).all()
    assert np.isnan(matrix[1, 2])
    values = metrics.summary(counts, (1, 1, 1))
    assert values["first_task_accuracy"] == 1.0
    assert values["last_accuracy"] == pytest.approx(205 / 300)
    assert values["average_incremental_accuracy"] == pytest.approx((1.0 + 0.85 + 205 / 300) / 3)
    assert values["average_incremental_accuracy_without_first"] == pytest.approx((0.85 + 205 / 300) / 2)
    assert values["average_incremental_accuracy_task_mean"] == pytest.approx(
        values["average_incremental_accuracy"]
    )
    assert values["forgetting"] == pytest.approx(((1.0 - 0.5) + (0.8 - 0.7)) / 2)


def test_the_best_earlier_accuracy_counts_even_when_it_came_later_than_learning():
    matrix = np.array([[0.6, np.nan, np.nan], [0.9, 0.8, np.nan], [0.5, 0.7, 0.85]])
    assert metrics.forgetting(matrix) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.7)) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx(((0.5 - 0.6) + (0.7 - 0.8)) / 2)


def test_forgetting_is_negative_when_old_tasks_improve():
    rising = np.array([[0.5, np.nan], [0.8, 0.7]])
    assert metrics.forgetting(rising) == pytest.approx(-0.3)
    assert metrics.backward_transfer(rising) == pytest.approx(0.3)


def test_a_perfect_predictor_forgets_nothing_and_is_unbiased():
    sizes = (4, 2, 2)
    counts = perfect(sizes)
    values = metrics.summary(counts, sizes)
    assert values["average_incremental_accuracy"] == 1.0
    assert values["forgetting"] == 0.0
    assert metrics.recency_bias(counts[-1], sizes) == pytest.approx(0.25)
    assert metrics.recency_ratio(counts[-1], sizes) == 1.0
    assert metrics.task_confusion(counts[-1], sizes) == pytest.approx(np.eye(3))
    assert metrics.asymmetry(counts[-1], sizes) == 0.0
    assert metrics.harmonic_mean(counts[-1], sizes) == 1.0
    assert metrics.task_accuracy(counts[-1], sizes) == 1.0


def test_always_the_last_task_has_all_answers_and_no_old_accuracy():
    sizes = (4, 2, 2)
    last = always_last(sizes)[-1]
    assert metrics.recency_bias(last, sizes) == 1.0
    assert metrics.recency_ratio(last, sizes) == 4.0
    assert metrics.old_accuracy(last, sizes) == 0.0
    assert metrics.new_accuracy(last, sizes) == 0.5
    assert metrics.harmonic_mean(last, sizes) == 0.0
    assert metrics.old_to_new(last, sizes) == 1.0
    assert metrics.new_to_old(last, sizes) == 0.0
    assert metrics.asymmetry(last, sizes) == 1.0
    assert metrics.task_accuracy(last, sizes) == 0.25


def test_one_task_leaves_what_compares_tasks_undefined():
    values = metrics.summary([np.array([[9, 1], [2, 8]])], (2,))
    assert values["average_incremental_accuracy"] == 0.85
    assert values["last_accuracy"] == 0.85
    for name in ("forgetting", "backward_transfer", "average_incremental_accuracy_without_first"):
        assert values[name] is None
    assert metrics.old_to_new(np.eye(2, dtype=int), (2,)) is None
    assert metrics.harmonic_mean(np.eye(2, dtype=int), (2,)) is None


def test_uneven_tasks_have_a_pooled_accuracy_that_is_not_the_mean_over_tasks():
    counts = [np.array([[10]]), np.diag([10, 10, 10])]
    counts[1][1] = [10, 0, 0]
    values = metrics.summary(counts, (1, 2))
    assert values["last_accuracy"] == pytest.approx(2 / 3)
    assert values["last_accuracy_task_mean"] == pytest.approx(0.75)


def test_classes_without_rows_give_nan_in_the_matrix_and_none_in_the_summary():
    counts = [np.zeros((1, 1), dtype=int)]
    assert np.isnan(metrics.accuracy_matrix(counts, (1,))).all()
    assert metrics.summary(counts, (1,))["last_accuracy"] is None
    assert np.isnan(metrics.recency_ratio(counts[0], (1,)))


def test_counts_that_end_inside_a_task_are_refused():
    with pytest.raises(ValueError, match="3 classes do not end at a task boundary"):
        metrics.accuracy_matrix([np.eye(3, dtype=int)], (2, 2))
    with pytest.raises(ValueError, match="cover 2 tasks, expected 1"):
        metrics.accuracy_matrix([np.eye(4, dtype=int)], (2, 2))
    with pytest.raises(ValueError, match="at least one task"):
        metrics.summary([], (2, 2))


def test_a_stopped_run_is_summed_up_over_the_tasks_it_trained():
    assert metrics.summary(perfect((2, 2)), (2, 2, 2, 2))["last_accuracy"] == 1.0


def test_every_metric_has_a_column_a_direction_and_a_formula():
    names = {column.name for column in columns("runs")}
    assert set(metrics.METRICS) == set(metrics.summary(perfect((1, 1)), (1, 1)))
    assert set(metrics.OBJECTIVES) == {*metrics.METRICS, "kept_bytes", "parameters", "flops", "seconds"}
    assert set(metrics.OBJECTIVES) <= names
    assert set(metrics.OBJECTIVES) <= set(metrics.FORMULAS)
    assert {direction for direction, _ in metrics.OBJECTIVES.values()} == {"max", "min"}
    assert metrics.OBJECTIVES["forgetting"][0] == "min"


@st.composite
def runs(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rows = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = [
        rng.multinomial(rows, rng.dirichlet(np.ones(n)), size=n).astype(np.int64) for n in np.cumsum(sizes)
    ]
    return counts, tuple(sizes)


@settings(max_examples=60)
@given(runs())
def test_identities_between_metrics_hold_for_any_counts(run):
    counts, sizes = run
    matrix, step = metrics.accuracy_matrix(counts, sizes), metrics.step_accuracy(counts)
    for t in range(len(counts)):
        weights = np.array(sizes[: t + 1]) / sum(sizes[: t + 1])
        assert step[t] == pytest.approx(
            float(weights @ matrix[t, : t + 1])
        )  # every class has equally many rows
    if len(set(sizes)) == 1:
        assert step == pytest.approx(metrics.task_mean_accuracy(matrix))
    confusion = metrics.task_confusion(counts[-1], sizes)
    assert confusion.sum(axis=1) == pytest.approx(np.ones(len(sizes)))
    share = sizes[-1] / sum(sizes)
    assert metrics.recency_bias(counts[-1], sizes) == pytest.approx(
        metrics.recency_ratio(counts[-1], sizes) * share
    )
    if len(sizes) > 1:
        assert metrics.forgetting(matrix) >= -metrics.backward_transfer(matrix) - 1e-12
        assert 0 <= metrics.harmonic_mean(counts[-1], sizes) <= 1
    else:
        assert metrics.forgetting(matrix) is None
