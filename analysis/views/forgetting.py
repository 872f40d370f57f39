"""The loss on each task over time: the accuracy matrix of every cell and classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.answers import least_and_most, methods
from analysis.report.section import VIEWS, Section
from analysis.report.style import matrices
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from cl_core.metrics import (
    FORMULAS,
    Matrix,
    accuracy_matrix,
    backward_transfer,
    forgetting,
    learning_accuracy,
)

TITLE = "Forgetting"
_HOVER = "after task %{y}, classes of task %{x}: %{z:.3f}"


@VIEWS.register("forgetting")
def forgetting_view(results: Results) -> Section:
    """R[t][k], the accuracy on task k (across) after task t (down), the mean over a cell's runs.

    A panel a classifier.
    """
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    groups: dict[str, list[tuple[str, list[list[float]]]]] = {}
    spreads: dict[str, list[Matrix | None]] = {}
    rows = []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        found = [
            accuracy_matrix(results.confusions(run, split, classifier), results.sizes(run)) for run, _ in runs
        ]
        matrix = np.mean(found, axis=0)
        title = f"{cell.label} · {classifier}" if rank else cell.label
        groups.setdefault(cell.scenario, []).append((title, matrix.tolist()))
        spread = _spread(found, [order for _, order in runs])
        spreads.setdefault(cell.scenario, []).append(spread)
        rows.append(
            {
                "scenario": cell.scenario,
                "label": cell.label,
                "classifier": classifier,
                "forgetting": _mean([forgetting(m) for m in found]),
                "backward transfer": _mean([backward_transfer(m) for m in found]),
                "learning accuracy": _mean([learning_accuracy(m) for m in found]),
                "first task, at first": float(matrix[0, 0]),
                "first task, at the end": float(matrix[-1, 0]),
                "sd over class orders": None if spread is None else float(np.nanmean(spread)),
            }
        )
    if not rows:
        return Section(TITLE, "No completed run has evaluated rows, so there is no forgetting to show.")
    figure = matrices(groups, f"{_HOVER}<extra></extra>")
    shown = [spread for group in spreads.values() for spread in group]
    for heat, spread in zip(figure.data, shown, strict=True):
        _write_spread(heat, spread)
    figure.update_xaxes(title_text="classes of task")
    figure.update_yaxes(title_text="after task")
    names = ("accuracy_matrix", "forgetting", "backward_transfer", "learning_accuracy")
    text = f"{same_sentence(split)} A column that fades downwards is a task being forgotten."
    formulas = [f"{name.replace('_', ' ')}: {FORMULAS[name]}" for name in names]
    if any(spread is not None for spread in shown):
        text += " The small number is the standard deviation over class orders."
        formulas.append("sd over class orders: of R[t][k], n − 1, the mean over all t and k ≤ t in the table")
    n = orders_sentence(compared, "")
    frame = pd.DataFrame(rows)
    question = "Which tasks are forgotten, and how much?"
    answer = least_and_most(frame, "forgetting", "forgets least", "most", methods(results))
    return Section(TITLE, text, formulas, n, frame, figure, split=split, question=question, answer=answer)


def _spread(matrices_of_runs: Sequence[Matrix], orders: Sequence[str]) -> Matrix | None:
    """The standard deviation [T, T] of R over class orders, seeds averaged first; None for one order."""
    by = {order: [m for m, o in zip(matrices_of_runs, orders, strict=True) if o == order] for order in orders}
    means = [np.mean(group, axis=0) for group in by.values()]
    return np.std(means, axis=0, ddof=1) if len(means) > 1 else None


def _write_spread(heat: go.Heatmap, spread: Matrix | None) -> None:
    """Write the spread under each number, and beside it over the cell."""
    if spread is None:
        return
    heat.text = [["" if np.isnan(value) else f"± {value:.2f}" for value in row] for row in spread]
    heat.hovertemplate = f"{_HOVER} %{{text}}<extra></extra>"
    if heat.texttemplate:
        heat.texttemplate = "%{z:.2f}<br><span style='font-size:8px'>%{text}</span>"


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
