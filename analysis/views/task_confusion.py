"""Into which tasks the rows of each task are answered, after the last one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.report.answers import least_and_most, methods
from analysis.report.section import VIEWS, Section
from analysis.report.style import matrices
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from cl_core.metrics import FORMULAS, task_accuracy, task_confusion

TITLE = "Task confusion"


@VIEWS.register("task_confusion")
def task_confusion_view(results: Results) -> Section:
    """C[a][b] after the last task, the mean over a cell's runs; a panel a cell and classifier."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    groups: dict[str, list[tuple[str, list[list[float]]]]] = {}
    rows = []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        ends = [(results.confusions(run, split, classifier)[-1], results.sizes(run)) for run, _ in runs]
        title = f"{cell.label} · {classifier}" if rank else cell.label
        matrix = np.mean([task_confusion(*end) for end in ends], axis=0)
        groups.setdefault(cell.scenario, []).append((title, matrix.tolist()))
        right = float(np.mean([task_accuracy(*end) for end in ends]))
        correct = float(np.mean([np.trace(counts) / counts.sum() for counts, _ in ends]))
        rows.append(
            {
                "scenario": cell.scenario,
                "label": cell.label,
                "classifier": classifier,
                "right task": right,
                "right class given right task": correct / right if right else None,
                "last accuracy": correct,
            }
        )
    if not rows:
        return Section(TITLE, "No completed run has evaluated rows, so there is no confusion to show.")
    figure = matrices(groups, "task %{y} answered as task %{x}: %{z:.3f}<extra></extra>")
    figure.update_xaxes(title_text="answered task")
    figure.update_yaxes(title_text="true task")
    text = (
        f"{same_sentence(split)} Rows sum to 1; a dark last column is recency bias, an even "
        "spread off the "
        "diagonal is confusion between tasks."
    )
    formulas = [
        f"task confusion: {FORMULAS['task_confusion']}",
        "last accuracy = P(right task) × P(right class given right task)",
    ]
    n = orders_sentence(compared, "")
    frame = pd.DataFrame(rows)
    question = "Are rows taken for classes of another task?"
    answer = least_and_most(frame, "right task", "is lowest", "highest", methods(results))
    answer = f"Share of rows answered with a class of their own task: {answer}" if answer else ""
    return Section(TITLE, text, formulas, n, frame, figure, split=split, question=question, answer=answer)
