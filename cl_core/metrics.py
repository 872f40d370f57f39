"""Metrics from confusion counts, on NumPy arrays: one definition for objectives and report.

Notation: a run has T tasks; task k brings m_k classes (`sizes[k]`); classes are numbered in arrival order.
After task t the counts `confusions[t]` have shape [seen_t, seen_t] with seen_t = m_0 + ... + m_t. Rows are
true classes, columns are answers among all seen classes. R[t][k] is the accuracy on the classes of task k
after task t. Accuracies are fractions. An undefined metric of a run with one task is None, an accuracy over
no rows is nan. Neither is ever 0.

Sources: A. Chaudhry et al., "Riemannian Walk", ECCV 2018 (forgetting); D. Lopez-Paz, M. Ranzato, "Gradient
Episodic Memory", NeurIPS 2017 (backward transfer); S.-A. Rebuffi et al., "iCaRL", CVPR 2017 (average
incremental accuracy).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Matrix = NDArray[np.float64]

METRICS: dict[str, tuple[str, str]] = {
    "average_incremental_accuracy": (
        "max",
        "1/T · Σ_t A_t, first task included; A_t pooled over seen classes",
    ),
    "average_incremental_accuracy_without_first": (
        "max",
        "1/(T−1) · Σ_{t≥1} A_t; A_t pooled over seen classes",
    ),
    "average_incremental_accuracy_task_mean": (
        "max",
        "1/T · Σ_t 1/(t+1) · Σ_{k≤t} R[t][k]: tasks weigh the same",
    ),
    "first_task_accuracy": ("max", "A_0 = R[0][0], right after the first task"),
    "last_accuracy": ("max", "A_{T−1} = right answers / rows over all classes, after the last task"),
    "last_accuracy_task_mean": ("max", "1/T · Σ_k R[T−1][k]: tasks weigh the same"),
    "forgetting": ("min", "1/(T−1) · Σ_{j<T−1} max_{j≤l<T−1} (R[l][j] − R[T−1][j]); may be negative"),
    "backward_transfer": ("max", "1/(T−1) · Σ_{j<T−1} (R[T−1][j] − R[j][j]); negative means forgetting"),
    "old_new_gap": (
        "min",
        "|A_{new} − A_{old}| after the last task: accuracy on its classes, and pooled over all older ones",
    ),
}
"""Metrics from confusion counts: name -> (direction, formula)."""

COSTS: dict[str, tuple[str, str]] = {
    "kept_bytes": (
        "min",
        "exemplars, prototypes, covariances and generators after the last task; no networks",
    ),
    "parameters": (
        "min",
        "of the networks that answer after the last task; of their heads, in the rows of seen classes",
    ),
    "flops": (
        "min",
        "floating-point operations of one image through the networks that answer after the last task",
    ),
    "seconds": ("min", "of training, as recorded with each checkpoint, whether it was shared or not"),
}
"""Costs of a run: name -> (direction, formula)."""

OBJECTIVES: dict[str, tuple[str, str]] = {**METRICS, **COSTS}
"""Objectives of a study: name -> (direction, formula). The names are columns of the `runs` table.

In formulas `_x` and `_{...}` are subscripts.
"""

FORMULAS: dict[str, str] = {
    **{name: formula for name, (_, formula) in OBJECTIVES.items()},
    "step_accuracy": "A_t = Σ diagonal / Σ of the confusion counts after task t (over all seen classes)",
    "accuracy_matrix": "R[t][k] = accuracy on the classes of task k after task t, among all seen classes",
    "task_mean_accuracy": "1/(t+1) · Σ_{k≤t} R[t][k]",
    "learning_accuracy": "1/T · Σ_t R[t][t]",
    "recency_bias": "P_{new} = share of all answers that name a class of the newest task",
    "recency_ratio": "P_{new} / (share of the newest task's rows); 1 is unbiased, 0 is never answered",
    "task_confusion": "C[a][b] = share of task a's rows answered with a class of task b; rows sum to 1",
    "old_to_new": "rows of older tasks answered with the newest task / rows of older tasks",
    "new_to_old": "rows of the newest task answered with an older task / rows of the newest task",
    "asymmetry": "(old to new) − (new to old); 0 is unbiased",
    "harmonic_mean": "2 · A_{old} · A_{new} / (A_{old} + A_{new}) after the last task; 0 if either is 0",
    "weight_norm": "mean over the classes of a task of the Euclidean norm of the class's head row",
}
"""The formula of every metric, as the report prints it."""


def _shares(counts: Matrix | Counts, totals: Matrix | Counts) -> Matrix:
    """Return counts / totals as float64; nan where the total is zero."""
    totals = np.asarray(totals, dtype=np.float64)
    empty = totals == 0
    return np.where(empty, np.nan, np.asarray(counts, dtype=np.float64) / np.where(empty, 1.0, totals))


def _groups(confusion: Counts, sizes: Sequence[int]) -> list[slice]:
    """Return the classes of each task that `confusion` [seen, seen] covers. Raises ValueError if none fit."""
    seen = confusion.shape[0]
    if confusion.ndim != 2 or confusion.shape[1] != seen:
        raise ValueError(f"confusion counts are square, not {confusion.shape}")
    groups, start = [], 0
    for size in sizes:
        if start == seen:
            break
        groups.append(slice(start, start + size))
        start += size
    if start != seen or not groups:
        raise ValueError(
            f"confusion counts over {seen} classes do not end at a task boundary of sizes {tuple(sizes)}"
        )
    return groups


def count_matrices(
    after_task: Sequence[int] | Counts,
    true_class: Sequence[int] | Counts,
    predicted_class: Sequence[int] | Counts,
    count: Sequence[int] | Counts,
    seen: Sequence[int] | Counts,
) -> list[Counts]:
    """Return the counts [seen, seen] after each task from rows of the table `confusion`."""
    out = [np.zeros((n, n), dtype=np.int64) for n in seen]
    at, true, predicted, number = map(np.asarray, (after_task, true_class, predicted_class, count))
    for task, matrix in enumerate(out):
        rows = at == task
        np.add.at(matrix, (true[rows], predicted[rows]), number[rows])
    return out


def task_counts(confusion: Counts, sizes: Sequence[int]) -> Counts:
    """Return the counts [t+1, t+1] between tasks: rows of task a answered with a class of task b."""
    confusion = np.asarray(confusion)
    groups = _groups(confusion, sizes)
    return np.array([[confusion[a, b].sum() for b in groups] for a in groups], dtype=np.int64)


def accuracy_matrix(confusions: Sequence[Counts], sizes: Sequence[int]) -> Matrix:
    """Return R [T, T], the accuracy on task k after task t; nan above the diagonal and without rows."""
    matrix = np.full((len(confusions), len(confusions)), np.nan)
    for t, confusion in enumerate(confusions):
        confusion = np.asarray(confusion)
        groups = _groups(confusion, sizes)
        if len(groups) != t + 1:
            raise ValueError(f"counts number {t} cover {len(groups)} tasks, expected {t + 1}")
        correct, rows = np.diag(confusion), confusion.sum(axis=1)
        matrix[t, : t + 1] = _shares(
            np.array([correct[g].sum() for g in groups]), np.array([rows[g].sum() for g in groups])
        )
    return matrix


def step_accuracy(confusions: Sequence[Counts]) -> Matrix:
    """Return A [T]: correct answers / rows after each task, pooled over the classes seen."""
    correct = np.array([np.trace(c) for c in confusions], dtype=np.float64)
    rows = np.array([np.sum(c) for c in confusions], dtype=np.float64)
    return _shares(correct, rows)


def task_mean_accuracy(matrix: Matrix) -> Matrix:
    """Return the mean of R[t][0..t] after each task t, [T]; every task weighs the same."""
    return np.array([matrix[t, : t + 1].mean() for t in range(len(matrix))], dtype=np.float64)


def average_incremental_accuracy(step: Matrix) -> float:
    """Return the mean of step accuracies [T], the first task included."""
    return float(np.mean(step))


def average_incremental_accuracy_without_first(step: Matrix) -> float | None:
    """Return the mean of step accuracies [T] from the second task on; None with one task."""
    return float(np.mean(step[1:])) if len(step) > 1 else None


def last_accuracy(step: Matrix) -> float:
    """Return the last of step accuracies [T]."""
    return float(step[-1])


def forgetting(matrix: Matrix) -> float | None:
    """Return the mean over older tasks j of (best earlier accuracy on j - accuracy on j at the end).

    The best is over tasks j..T-2, so a task that improves at the end counts negative. None with one task.
    """
    last = len(matrix) - 1
    if last < 1:
        return None
    return float(np.mean([matrix[j:last, j].max() - matrix[last, j] for j in range(last)]))


def backward_transfer(matrix: Matrix) -> float | None:
    """Return the mean over older tasks j of (accuracy on j at the end - after task j); None with one task."""
    last = len(matrix) - 1
    if last < 1:
        return None
    return float(np.mean([matrix[last, j] - matrix[j, j] for j in range(last)]))


def learning_accuracy(matrix: Matrix) -> float:
    """Return the mean of the diagonal of R: the accuracy on each task right after its training."""
    return float(np.mean(np.diag(matrix)))


def recency_bias(confusion: Counts, sizes: Sequence[int]) -> float:
    """Return the share of all answers that name a class of the newest task; nan without rows."""
    tasks = task_counts(confusion, sizes)
    return float(_shares(tasks[:, -1].sum(), tasks.sum()))


def recency_ratio(confusion: Counts, sizes: Sequence[int]) -> float:
    """Return `recency_bias` over the newest task's share of the rows: 1 is unbiased, nan without them."""
    tasks = task_counts(confusion, sizes)
    return float(_shares(tasks[:, -1].sum(), tasks[-1].sum()))


def task_confusion(confusion: Counts, sizes: Sequence[int]) -> Matrix:
    """Return C [t+1, t+1]: the share of task a's rows answered with a class of task b; nan without rows."""
    tasks = task_counts(confusion, sizes)
    return _shares(tasks, tasks.sum(axis=1, keepdims=True))


def old_to_new(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return the share of older tasks' rows answered with the newest task; None with one task."""
    tasks = task_counts(confusion, sizes)
    return float(_shares(tasks[:-1, -1].sum(), tasks[:-1].sum())) if len(tasks) > 1 else None


def new_to_old(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return the share of the newest task's rows answered with an older task; None with one task."""
    tasks = task_counts(confusion, sizes)
    return float(_shares(tasks[-1, :-1].sum(), tasks[-1].sum())) if len(tasks) > 1 else None


def asymmetry(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return `old_to_new` - `new_to_old`, positive if errors flow to the newest task; None with one task."""
    forward, backward = old_to_new(confusion, sizes), new_to_old(confusion, sizes)
    return None if forward is None or backward is None else forward - backward


def old_accuracy(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return the accuracy pooled over the classes of all tasks but the newest; None with one task."""
    confusion = np.asarray(confusion)
    old = _groups(confusion, sizes)[-1].start
    return float(_shares(np.trace(confusion[:old, :old]), confusion[:old].sum())) if old else None


def new_accuracy(confusion: Counts, sizes: Sequence[int]) -> float:
    """Return the accuracy on the classes of the newest task."""
    confusion = np.asarray(confusion)
    new = _groups(confusion, sizes)[-1]
    return float(_shares(np.trace(confusion[new, new]), confusion[new].sum()))


def old_new_gap(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return the distance of the accuracies on the newest task and on older ones; None with one task."""
    old = old_accuracy(confusion, sizes)
    return None if old is None else abs(new_accuracy(confusion, sizes) - old)


def harmonic_mean(confusion: Counts, sizes: Sequence[int]) -> float | None:
    """Return 2 A_old A_new / (A_old + A_new), 0 if either is 0; None with one task."""
    old, new = old_accuracy(confusion, sizes), new_accuracy(confusion, sizes)
    if old is None:
        return None
    return 0.0 if old == 0 or new == 0 else 2 * old * new / (old + new)


def task_accuracy(confusion: Counts, sizes: Sequence[int]) -> float:
    """Return the share of rows answered with a class of the right task, P(correct task)."""
    tasks = task_counts(confusion, sizes)
    return float(_shares(np.trace(tasks), tasks.sum()))


def summary(confusions: Sequence[Counts], sizes: Sequence[int]) -> dict[str, float | None]:
    """Return every metric of METRICS by name, over the tasks trained so far; None where undefined.

    `confusions` holds one matrix for each trained task, at least one. `sizes` may include later tasks.
    """
    if not len(confusions):
        raise ValueError("a summary needs the counts of at least one task")
    matrix, step = accuracy_matrix(confusions, sizes), step_accuracy(confusions)
    means = task_mean_accuracy(matrix)
    values: dict[str, float | None] = {
        "average_incremental_accuracy": average_incremental_accuracy(step),
        "average_incremental_accuracy_without_first": average_incremental_accuracy_without_first(step),
        "average_incremental_accuracy_task_mean": average_incremental_accuracy(means),
        "first_task_accuracy": float(step[0]),
        "last_accuracy": last_accuracy(step),
        "last_accuracy_task_mean": last_accuracy(means),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "old_new_gap": old_new_gap(confusions[-1], sizes),
    }
    return {name: None if value is None or math.isnan(value) else value for name, value in values.items()}
