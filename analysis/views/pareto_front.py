"""The trade-offs between objectives: the trials that no other of their cell beats in everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import clock, plural, size
from analysis.lake.results import Results
from analysis.report.answers import MOST_SCENARIOS, decimal
from analysis.report.identity import REFERENCE_COLOURS, identities
from analysis.report.section import VIEWS, Section
from analysis.report.style import fade, panels, place
from analysis.selection.front import Front, Point, front, on_front
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.statistics.intervals import INTERVAL
from cl_core.metrics import METRICS, OBJECTIVES

TITLE = "Pareto front"
COST = "kept_bytes"  # the second axis of a study that optimises one thing ...
WORTH = "average_incremental_accuracy"  # ... and where that is the cost itself
LIKE = "cannot be told from"
TOLD = 4  # points that the answer names
OFF_FRONT = 200  # trials of a cell off its front that the figure shows; of more, every k-th


@VIEWS.register("pareto_front")
def pareto_front(results: Results) -> Section:
    """Every cell's front over the objectives or against kept bytes; points like a neighbour are marked."""
    names = dict(results.study.objectives)
    if len(names) == 1:
        second = WORTH if COST in names else COST
        names[second] = OBJECTIVES[second][0]
    found = [(cell, front(results, cell, names)) for cell in cells(results)]
    shown = [(cell, one) for cell, one in found if len(one.trials) > 1 and one.points]
    if not shown:
        named = " and ".join(name.replace("_", " ") for name in names)
        text = f"No cell has two trials that have completed with a value of {named}: there is no front."
        return Section(TITLE, text, optional=True)
    text = (
        "Cells with one trial have no front. A trial is on its cell's front if no other one is at least as "
        "good in "
        f"{' and '.join(name.replace('_', ' ') for name in names)}, and better in one. Only completed "
        f"trials are compared, by their value over class orders and seeds on {rows_selected_on(results)}. "
        "The figure shows the first two; lines join the fronts, and bars are 95 % intervals. Points "
        "of a front are the best of many trials, so their values are optimistic; confirmed values are not."
    )
    if any(len(one.trials) - len(one.points) > OFF_FRONT for _, one in shown):
        text += f" Of more than {OFF_FRONT} trials off a front it shows every k-th."
    text += _orders([cell for cell, _ in shown])
    table = pd.DataFrame([_row(cell, point) for cell, one in shown for point in one.points])
    formulas = [
        f"{name.replace('_', ' ')} ({direction}): {OBJECTIVES[name][1]}" for name, direction in names.items()
    ]
    if set(names) & set(METRICS):
        formulas += [
            INTERVAL + "; with one class order 1.96 · e",
            f"{LIKE}: neighbours a and b on a front, by {next(iter(names)).replace('_', ' ')}, whose paired "
            "difference a − b is inside its interval in every accuracy; of m accuracies at 5 % / m each",
        ]
    compared = sum(len(one.trials) for _, one in shown)
    n = f"n = {plural(compared, 'completed trial')} in {plural(len(shown), 'cell')}"
    figure = _figure(results, shown, *list(names)[:2])
    first, second = (name.replace("_", " ") for name in list(names)[:2])
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        figure,
        split=split_selected_on(results),
        question=f"Which trials does no other beat in both {first} and {second}?",
        answer=f"{_over_methods(shown, names)} {_sentence([one for _, one in shown], list(names))}".strip(),
    )


def _over_methods(shown: Sequence[tuple[Cell, Front]], names: Mapping[str, str]) -> str:
    """The sentence on the points that no trial of any method beats, references aside, in each scenario."""
    parts, first = [], next(iter(names.values()))
    own = [(cell, one) for cell, one in shown if cell.method not in REFERENCE_COLOURS] or shown
    for scenario in dict.fromkeys(cell.scenario for cell, _ in own):
        mine = [(cell.label, point) for cell, one in own if cell.scenario == scenario for point in one.points]
        values = np.array([[point.values[name] for name in names] for _, point in mine], dtype=float)
        best = [mine[at] for at in np.flatnonzero(on_front(values, list(names.values())))]
        best.sort(key=lambda pair: list(pair[1].values.values()), reverse=first == "max")
        said = [f"{label} trial {point.trial} ({_values(point, names)})" for label, point in best[:TOLD]]
        more = f" and {len(best) - TOLD} more" if len(best) > TOLD else ""
        parts.append(f"in {scenario}, {', '.join(said)}{more}")
    left = f"; and {len(parts) - MOST_SCENARIOS} more scenarios" if len(parts) > MOST_SCENARIOS else ""
    return f"On the front over all methods: {'; '.join(parts[:MOST_SCENARIOS])}{left}."


def _values(point: Point, names: Mapping[str, str]) -> str:
    """The objectives of a point in words."""
    return " at ".join(amount(name, point.values[name]) for name in names)


def amount(name: str, value: float) -> str:
    """An objective in words: an accuracy of 0.523, or a cost with its unit."""
    if name in METRICS:
        return decimal(value)
    units = {COST: size, "seconds": clock}
    return units[name](value) if name in units else f"{value:,.0f} {name}"


def _sentence(fronts: Sequence[Front], names: Sequence[str]) -> str:
    """The sentence on the points that differ from their neighbours; empty where nothing is counted."""
    if not set(names) & set(METRICS):
        return ""
    points = [point for one in fronts if one.compared for point in one.points]
    if not points:
        return (
            "Each method's own front is a single point: one trial is at least as good as its others in all "
            "objectives."
        )
    firm = sum(not point.like for point in points)
    verb = "differs from its" if firm == 1 else "differ from their"
    text = f"{firm} of {len(points)} points on the fronts {verb} neighbours."
    if firm < len(points):
        text += (
            " An open mark cannot be told from a neighbour: on other rows the two may change places. "
            "These rows do not show that the cheaper one is worse, nor that both are equal."
        )
    return text


def _orders(shown: Sequence[Cell]) -> str:
    orders = max(cell.runs["class_order"].nunique() for cell in shown)
    if orders > 1:
        return " Neighbours are compared over the class orders that both have."
    return " There is one class order: the intervals hold for its rows, not for other class orders."


def _row(cell: Cell, point: Point) -> dict[str, Any]:
    row: dict[str, Any] = {"scenario": cell.scenario, "label": cell.label, "trial": point.trial}
    for name, value in point.values.items():
        said = name.replace("_", " ")
        row[said] = value
        if name in point.half:
            row[f"{said} ±"] = point.half[name]
        if name in point.confirmed:
            row[f"{said}, confirmed"] = point.confirmed[name]
            row[f"{said}, confirmed ±"] = point.confirmed_half[name]
    word = "trials" if len(point.like) > 1 else "trial"
    row[LIKE] = f"{word} {' and '.join(map(str, point.like))}" if point.like else None
    return row


def _figure(results: Results, shown: Sequence[tuple[Cell, Front]], first: str, second: str) -> go.Figure:
    names = list(dict.fromkeys(cell.scenario for cell, _ in shown))
    figure = panels(names, columns=2, height=260, legend=True)
    marks, seen = identities(results), set[str]()
    for cell, one in shown:
        symbol = marks[cell.label].symbol
        where = place(names.index(cell.scenario), figure)
        rest = one.trials[~one.trials["front"]]
        rest = rest.iloc[:: max(1, -(-len(rest) // OFF_FRONT))]
        style = {"name": cell.label, "legendgroup": cell.label}
        hover = f"{cell.label}, %{{text}}: %{{y:.3f}} at %{{x:.3g}}<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=list(rest[second].astype(float)),
                y=list(rest[first].astype(float)),
                mode="markers",
                showlegend=False,
                marker={"size": 6, "color": fade(marks[cell.label].colour, 0.35)},
                text=[f"trial {number}" for number in rest["trial"]],
                hovertemplate=hover,
                **style,
            ),
            **where,
        )
        figure.add_trace(
            go.Scatter(
                x=[point.values[second] for point in one.points],
                y=[point.values[first] for point in one.points],
                error_x=_bars([point.half.get(second) for point in one.points]),
                error_y=_bars([point.half.get(first) for point in one.points]),
                mode="markers+lines",
                showlegend=cell.label not in seen,
                marker={
                    "size": 8,
                    "color": marks[cell.label].colour,
                    "symbol": [symbol + ("-open" if point.like else "") for point in one.points],
                    "line": {"width": 2, "color": marks[cell.label].colour},
                },
                line={"color": marks[cell.label].colour, "width": 1.4},
                text=[f"trial {point.trial}" for point in one.points],
                hovertemplate=hover,
                **style,
            ),
            **where,
        )
        seen.add(cell.label)
    figure.update_xaxes(title_text=second.replace("_", " "))
    figure.update_yaxes(title_text=first.replace("_", " "))
    return figure


def _bars(halves: Sequence[float | None]) -> Mapping[str, Any] | None:
    """Error bars of a trace; None where its values have no interval."""
    known = [half for half in halves if half is not None]
    return {"array": known, "thickness": 1, "width": 2} if known else None
