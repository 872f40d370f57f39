"""The accuracy on every single task over time: who forgets what, and when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.answers import decimal, methods
from analysis.report.identity import PALETTE, about
from analysis.report.section import VIEWS, Section
from analysis.report.style import EDGE, panels, place
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from cl_core.metrics import FORMULAS, Matrix, accuracy_matrix

TITLE = "Accuracy of each task over time"
_AGES = [PALETTE["orange"], PALETTE["blue"]]  # from the oldest task to the newest, on light and dark pages
_PANELS = 24  # cells of the figure; the table has all of them


@VIEWS.register("task_curves")
def task_curves(results: Results) -> Section:
    """R[t][k] of each task k as a line over t, the mean over a cell's runs; a panel a cell."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    found: dict[tuple[str, str], Matrix] = {}
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        matrices = [
            accuracy_matrix(results.confusions(run, split, classifier), results.sizes(run)) for run, _ in runs
        ]
        if rank == 0 and len(matrices[0]) > 1:
            found[cell.scenario, cell.label] = np.mean(matrices, axis=0)
    if not found:
        return Section(TITLE, "No completed run has a second task, so no task grows old.", optional=True)
    table = pd.DataFrame(
        [
            {
                "scenario": scenario,
                "label": label,
                **{f"task {k}": matrix[-1, k] for k in range(len(matrix))},
                "largest loss": _largest(matrix)[0],
                "of task": _largest(matrix)[1],
            }
            for (scenario, label), matrix in found.items()
        ]
    )
    left = f" The figure shows the first {_PANELS} cells." if len(found) > _PANELS else ""
    text = (
        f"{same_sentence(split)} A line begins where its task is learnt; orange lines are "
        "old tasks, blue ones new. The table has the accuracy on each task after the last one, and the "
        f"largest loss since a task was learnt.{left}"
    )
    formulas = [FORMULAS["accuracy_matrix"], "largest loss: max_k (R[k][k] − R[T−1][k])"]
    return Section(
        TITLE,
        text,
        formulas,
        orders_sentence(compared, ""),
        table,
        _figure(found),
        split=split,
        question="How fast is each task forgotten?",
        answer=_answer({place: one for place, one in found.items() if place[1] in methods(results)} or found),
    )


def _largest(matrix: Matrix) -> tuple[float, int]:
    """Return the largest loss of a task since it was learnt, and the task."""
    losses = np.diag(matrix)[:-1] - matrix[-1, :-1]
    return float(losses.max()), int(losses.argmax())


def _answer(found: dict[tuple[str, str], Matrix]) -> str:
    """Compare the accuracy on the task before the last one with that when it was learnt."""
    fresh = float(np.mean([matrix[-2, -2] - matrix[-1, -2] for matrix in found.values()]))
    place, matrix = max(found.items(), key=lambda item: _largest(item[1])[0])
    loss, task = _largest(matrix)
    return (
        f"One further task takes {decimal(fresh)} from the task before it, mean over "
        f"{plural(len(found), 'cell')}. The largest loss is {decimal(loss)}: {place[1]} on task "
        f"{task} in {place[0]}."
    )


def _figure(found: dict[tuple[str, str], Matrix]) -> go.Figure:
    shown = list(found.items())[:_PANELS]
    several = len({scenario for (scenario, _), _ in shown}) > 1
    figure = panels(
        [f"{label}, {scenario}" if several else label for (scenario, label), _ in shown],
        3,
        190,
        shared_y=True,
    )
    for index, ((scenario, label), matrix) in enumerate(shown):
        last = len(matrix) - 1
        shades = sample_colorscale(_AGES, [k / last for k in range(last + 1)])
        for task, shade in enumerate(shades):
            line = go.Scatter(
                x=list(range(task, last + 1)),
                y=matrix[task:, task].tolist(),
                mode="lines+markers",
                line={"color": shade, "width": 2},
                marker={"size": 5},
                meta=about(label, scenario),
                hovertemplate=f"task {task} after task %{{x}}: %{{y:.3f}}<extra></extra>",
                showlegend=False,
            )
            figure.add_trace(line, **place(index, figure))
    longest = max(len(matrix) for _, matrix in shown)
    figure.update_xaxes(tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5, linecolor=EDGE)
    figure.update_xaxes(title_text="after task")
    figure.update_yaxes(range=[0, 1.02], showticklabels=True)
    return figure
