"""How accuracy over the classes seen so far falls from task to task, each classifier apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.load import Results
from analysis.section import VIEWS, Section
from analysis.selection import cells, orders_sentence, split_of, split_sentence
from analysis.stats import Mean, over_orders
from analysis.style import colours, curve, fade, panels, place
from cl_core.metrics import FORMULAS, step_accuracy

TITLE = "Accuracy over tasks"


@VIEWS.register("accuracy_curves")
def accuracy_curves(results: Results) -> Section:
    """Step accuracy of each cell's best configuration; the band is the t-interval over class orders."""
    chosen = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, chosen)
    names = list(dict.fromkeys(cell.scenario for cell in chosen))
    curves: list[
        tuple[str, str, int, str, list[Mean]]
    ] = []  # scenario, label, rank, classifier, a mean a task
    for cell in chosen:
        known = results.classifiers(str(cell.best["trial"].iloc[0]), split)
        for rank, classifier in enumerate(known):
            points: dict[int, list[tuple[str, float]]] = {}
            for trial, order in zip(cell.best["trial"], cell.best["class_order"], strict=True):
                if classifier not in results.classifiers(trial, split):
                    continue
                for task, value in enumerate(step_accuracy(results.confusions(trial, split, classifier))):
                    points.setdefault(task, []).append((str(order), float(value)))
            means = [over_orders(points[task]) for task in sorted(points)]
            curves.append((cell.scenario, cell.label, rank, classifier, means))
    if not curves:
        return Section(TITLE, "No completed run has evaluated rows, so there is no curve to draw.")
    colour = colours(results)
    figure = panels(names, columns=2, height=330, legend=True, shared_y=True)
    listed: set[tuple[str, str]] = set()
    for scenario, label, rank, classifier, means in curves:
        where = place(names.index(scenario), figure)
        x, y = list(range(len(means))), [m.value for m in means]
        key = (label, classifier)
        if len(means) and all(m.half is not None for m in means):
            low = [(m.value or 0.0) - (m.half or 0.0) for m in means]
            high = [(m.value or 0.0) + (m.half or 0.0) for m in means]
            figure.add_trace(
                go.Scatter(
                    x=x + x[::-1],
                    y=np.clip(high + low[::-1], 0, 1),
                    mode="lines",
                    fill="toself",
                    fillcolor=fade(colour[label], 0.13),
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=f"{label} {classifier}",
                ),
                **where,
            )
        hover = "task %{x}: %{y:.3f}"
        figure.add_trace(
            curve(label, classifier, rank, x, y, colour[label], hover, key not in listed), **where
        )
        listed.add(key)
    figure.update_xaxes(title_text="after task", tickmode="linear", tick0=0, dtick=_dtick(curves))
    figure.update_yaxes(title_text="accuracy over seen classes", range=[0, 1.02], showticklabels=True)
    table = pd.DataFrame(
        [
            {
                "scenario": s,
                "label": label,
                "classifier": c,
                **{f"A{t}": m.value for t, m in enumerate(means)},
            }
            for s, label, _, c, means in curves
        ]
    )
    text = f"{split_sentence(results, split)} Dotted lines are classifiers other than a method's own."
    return Section(TITLE, text, [FORMULAS["step_accuracy"]], orders_sentence(chosen), table, figure)


def _dtick(curves: list[tuple[str, str, int, str, list[Mean]]]) -> int:
    return 1 if max(len(means) for *_, means in curves) <= 12 else 5
