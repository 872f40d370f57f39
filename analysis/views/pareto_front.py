"""The trade-offs between objectives: the trials that no other of their cell beats in everything."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from analysis.report.style import colours, fade, panels, place
from analysis.selection.selection import Cell, cells, over_runs, rows_selected_on, split_selected_on
from analysis.selection.trials import whole
from cl_core.metrics import OBJECTIVES

TITLE = "Pareto front"
COST = "kept_bytes"  # the second axis of a study that optimises one thing


@VIEWS.register("pareto_front")
def pareto_front(results: Results) -> Section:
    """Every cell's front over the study's objectives; of a single one, against the bytes kept."""
    names = dict(results.study.objectives)
    if len(names) == 1 and COST not in names:
        names[COST] = "min"
    found = {cell.name: _points(results, cell, names) for cell in cells(results)}
    shown = [cell for cell in cells(results) if len(found[cell.name])]
    if not shown:
        named = " and ".join(name.replace("_", " ") for name in names)
        return Section(TITLE, f"No trial has completed with a value of {named}: there is no front.")
    rows = []
    for cell in shown:
        front = found[cell.name][found[cell.name]["front"]]
        for _, point in front.iterrows():
            known = {name.replace("_", " "): float(point[name]) for name in names}
            rows.append(
                {"scenario": cell.scenario, "label": cell.label, "trial": int(point["trial"]), **known}
            )
    first, second = list(names)[:2]
    text = (
        "A trial is on its cell's front when no other one is at least as good in all of "
        f"{', '.join(name.replace('_', ' ') for name in names)} and better in one. Only completed ones are "
        f"compared, by their value over class orders and seeds on {rows_selected_on(results)}. The figure "
        "shows the first two; lines join the fronts."
    )
    formulas = [
        f"{name.replace('_', ' ')} ({direction}): {OBJECTIVES[name][1]}" for name, direction in names.items()
    ]
    counts = [len(found[cell.name]) for cell in shown]
    n = f"n = {sum(counts)} completed trials in {len(shown)} cells"
    figure = _figure(results, shown, found, first, second)
    table = pd.DataFrame(rows)
    return Section(TITLE, text, formulas, n, table, figure, split=split_selected_on(results))


def on_front(values: NDArray[np.float64], directions: list[str]) -> NDArray[np.bool_]:
    """Mark the rows of `values` [n, objectives] that no other row beats."""
    signed = values * np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    no_worse = (signed[:, None, :] <= signed[None, :, :]).all(axis=2)
    better = (signed[:, None, :] < signed[None, :, :]).any(axis=2)
    beaten: NDArray[np.bool_] = (no_worse & better).any(axis=0)
    return ~beaten


def _points(results: Results, cell: Cell, names: dict[str, str]) -> pd.DataFrame:
    """number, the objectives and whether it is on the front, of every completed trial."""
    runs = cell.runs
    table = over_runs(results, whole(runs[runs["status"] == "completed"]), names).dropna(subset=list(names))
    if len(table):
        table["front"] = on_front(table[list(names)].to_numpy(dtype=np.float64), list(names.values()))
    return table


def _figure(
    results: Results, shown: list[Cell], found: dict[str, pd.DataFrame], first: str, second: str
) -> go.Figure:
    names = list(dict.fromkeys(cell.scenario for cell in shown))
    figure = panels(names, columns=2, height=260, legend=True)
    colour, seen = colours(results), set()
    for index, scenario in enumerate(names):
        for cell in (cell for cell in shown if cell.scenario == scenario):
            points = found[cell.name].sort_values([second, first])
            front = points[points["front"]]
            rest = points[~points["front"]]
            for part, mode, opacity in ((rest, "markers", 0.35), (front, "markers+lines", 1.0)):
                own = mode != "markers"
                figure.add_trace(
                    go.Scatter(
                        x=list(part[second].astype(float)),
                        y=list(part[first].astype(float)),
                        mode=mode,
                        name=cell.label,
                        legendgroup=cell.label,
                        showlegend=own and cell.label not in seen,
                        marker={"size": 8 if own else 6, "color": fade(colour[cell.label], opacity)},
                        line={"color": colour[cell.label], "width": 1.4},
                        text=[f"trial {number}" for number in part["trial"]],
                        hovertemplate=f"{cell.label}, %{{text}}: %{{y:.3f}} at %{{x:.3g}}<extra></extra>",
                    ),
                    **place(index, figure),
                )
            seen.add(cell.label)
    figure.update_xaxes(title_text=second.replace("_", " "))
    figure.update_yaxes(title_text=first.replace("_", " "))
    return figure
