"""The objective against each searched hyperparameter."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import SYMBOLS, fade, panels, place, plain
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.selection.trials import ranked, span

TITLE = "Hyperparameters"
NO_BOX = "<extra></extra>"  # of plotly: no second box with the trace's name


@VIEWS.register("hyperparameters")
def hyperparameters(results: Results) -> Section:
    """The objective of every completed trial against each searched value.

    A panel a label and hyperparameter.
    """
    found = [(cell, ranked(results, cell)) for cell in cells(results)]
    name, direction = results.study.objective
    pairs = list(dict.fromkeys((cell.label, column) for cell, points in found for column in searched(points)))
    pairs.sort(key=lambda pair: [cell.label for cell, _ in found].index(pair[0]))
    if not pairs:
        return Section(TITLE, "No cell has two completed trials that differ, so there is no effect to show.")
    scenarios = list(dict.fromkeys(cell.scenario for cell, _ in found))
    colour = colours(results)
    figure = panels(
        [f"{label} · {_short(column)}" for label, column in pairs], 3, 210, legend=len(scenarios) > 1
    )
    rows = []
    listed: set[str] = set()
    for index, (label, column) in enumerate(pairs):
        where = place(index, figure)
        shown: list[object] = []
        for cell, points in found:
            points = points[points[column].notna()]
            if cell.label != label or points.empty:
                continue
            values = [_value(v) for v in points[column]]
            shown += values
            best = [int(n) == cell.selected_trial for n in points["trial"]]
            figure.add_trace(
                go.Scatter(
                    x=values,
                    y=list(points["objective"]),
                    mode="markers",
                    name=cell.scenario,
                    legendgroup=cell.scenario,
                    showlegend=cell.scenario not in listed,
                    marker={
                        "symbol": SYMBOLS[scenarios.index(cell.scenario) % len(SYMBOLS)],
                        "size": [12 if b else 8 for b in best],
                        "color": fade(colour[label], 0.62),
                        "line": {
                            "color": ["#111111" if b else colour[label] for b in best],
                            "width": [2 if b else 1 for b in best],
                        },
                    },
                    text=[f"{cell.name}/{n}" for n in points["trial"]],
                    hovertemplate=f"%{{text}}<br>{plain(_short(column))} = %{{x}}<br>%{{y:.3f}}" + NO_BOX,
                ),
                **where,
            )
            listed.add(cell.scenario)
            rows.append(_effect(cell, points, column))
        if spans_decades(shown):
            wide = spans_decades(shown, 1.7)
            figure.update_xaxes(type="log", dtick=1 if wide else "D2", tickformat="~g", **where)
        elif any(isinstance(v, str) for v in shown):
            figure.update_xaxes(type="category", **where)
    figure.update_traces(selector={"showlegend": True}, marker_opacity=1)
    figure.update_yaxes(title_text="objective")
    text = (
        f"Objective: {name.replace('_', ' ')} ({direction}) on {rows_selected_on(results)} over a "
        "trial's runs; "
        "larger marks with a dark rim are the best of their cell. The other hyperparameters vary too, so a "
        "panel shows an association, not an effect in isolation; a sampler that learns crowds the good "
        "region."
    )
    formulas = ["Spearman ρ: rank correlation of value and objective over a cell's completed trials"]
    counts = [len(points) for _, points in found if len(points)]
    n = f"n = {span(counts)} completed trials a cell" if counts else ""
    return Section(TITLE, text, formulas, n, pd.DataFrame(rows), figure, split=split_selected_on(results))


def searched(points: pd.DataFrame) -> list[str]:
    """The columns that vary; a recipe field that is always the same for base and increments counts once."""
    varied = [c for c in points.columns if c.startswith(ADDED) and points[c].nunique() > 1]
    twins = {
        c: c.replace("recipe.base.", "recipe.increment.") for c in varied if c.startswith("recipe.base.")
    }
    return [
        c
        for c in varied
        if c not in twins or twins[c] not in varied or not points[c].equals(points[twins[c]])
    ]


def spans_decades(values: list[object], decades: float = 1) -> bool:
    """Tell whether values are positive numbers over more than a factor of ten to the power of `decades`."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or not numbers or min(numbers) <= 0:
        return False
    return math.log10(max(numbers) / min(numbers)) > decades


def _effect(cell: Cell, points: pd.DataFrame, column: str) -> dict[str, object]:
    best = points[points["trial"] == cell.selected_trial][column]
    row: dict[str, object] = {
        "scenario": cell.scenario,
        "label": cell.label,
        "hyperparameter": _short(column),
        "best": _text(best.iloc[0]) if len(best) else None,
        "tried": _tried(points[column]),
        "trials": len(points),
        "Spearman ρ": None,
    }
    numeric = [_value(v) for v in points[column]]
    if (
        len(set(numeric)) > 2
        and points["objective"].nunique() > 2
        and not any(isinstance(v, str) for v in numeric)
    ):
        row["Spearman ρ"] = float(stats.spearmanr(numeric, points["objective"]).statistic)
    return row


def _tried(values: pd.Series) -> str:
    known = [_value(v) for v in values]
    if any(isinstance(v, str) for v in known):
        return ", ".join(sorted({str(v) for v in known}))
    numbers = [float(v) for v in known]
    return f"{min(numbers):.4g} to {max(numbers):.4g}"


def _value(value: object) -> float | str:
    """A number, or the text of a truth value or name."""
    if isinstance(value, bool | str):
        return str(value)
    return float(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    plainly = _value(value)
    return plainly if isinstance(plainly, str) else f"{plainly:.4g}"


def _short(column: str) -> str:
    return column.removeprefix("hp.")
