"""The objective against each searched hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.report.identity import about, colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import INK, SYMBOLS, fade, panels, place, plain
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.selection.trials import ranked, span, trials
from analysis.selection.turns import turns_sentence

TITLE = "Hyperparameters"
MOST, BEST = 400, 100  # trials of a cell that a panel shows, and how many of them are the best
STOPPED = "#7b8490"
NO_BOX = "<extra></extra>"  # of plotly: no second box with the trace's name


@VIEWS.register("hyperparameters")
def hyperparameters(results: Results) -> Section:
    """The objective of every trial against each searched value, stopped ones at the edge.

    A panel a label and hyperparameter.
    """
    found = [(cell, ranked(results, cell)) for cell in cells(results)]
    name, direction = results.study.objective
    pairs = list(dict.fromkeys((cell.label, column) for cell, points in found for column in searched(points)))
    pairs.sort(key=lambda pair: [cell.label for cell, _ in found].index(pair[0]))
    if not pairs:
        return Section(TITLE, "No cell has two completed trials that differ, so there is no effect to show.")
    stopped = {cell.name: _stopped(results, cell) for cell, _ in found}
    effects = [
        _effect(cell, having, column, int(stopped[cell.name][column].notna().sum()))
        for label, column in pairs
        for cell, points in found
        if cell.label == label and len(having := _having(points, column))
    ]
    frame = pd.DataFrame(effects)
    if not frame["stopped"].any():
        frame = frame.drop(columns="stopped")
    text = (
        f"Objective: {name.replace('_', ' ')} ({direction}) on {rows_selected_on(results)} over a "
        "trial's runs; "
        "larger marks with a dark rim are the selected trials. The other hyperparameters vary too, so a "
        "panel shows an association, not an effect in isolation; a sampler that learns crowds the good "
        "region."
    )
    text += turns_sentence(results.study.protocol.turns)
    if "stopped" in frame:
        text += " Stopped trials have no objective: a grey cross at the edge shows where they lay."
    if any(len(points) > MOST for _, points in found):
        text += (
            f" Of a cell with more than {MOST} trials, a panel shows the best {BEST} and {MOST - BEST} "
            "others, evenly by rank; table and ρ are of all."
        )
    formulas = ["Spearman ρ: rank correlation of value and objective over a cell's completed trials"]
    counts = [len(points) for _, points in found if len(points)]
    n = f"n = {span(counts)} completed trials a cell" if counts else ""
    figure = _figure(results, found, pairs, stopped)
    return Section(
        TITLE,
        text,
        formulas,
        n,
        frame,
        figure,
        split=split_selected_on(results),
        question="Which values did good trials have?",
        answer=_answer(frame),
    )


def _answer(frame: pd.DataFrame) -> str:
    """The sentence on the strongest association."""
    known = frame[frame["Spearman ρ"].notna()].reset_index(drop=True)
    if known.empty:
        return ""
    row = known.iloc[int(np.argmax(known["Spearman ρ"].abs()))]
    rho = f"{row['Spearman ρ']:+.2f}".replace("-", "−")
    return (
        f"The objective goes most closely with {row['hyperparameter']} of {row['label']} in "
        f"{row['scenario']}: rank correlation {rho} over {row['trials']} trials."
    )


def _stopped(results: Results, cell: Cell) -> pd.DataFrame:
    """The stopped trials of a cell; a study's columns are there also where none was stopped."""
    ended = trials(results, cell)
    return ended[ended["status"] == "stopped"]


def _figure(
    results: Results,
    found: Sequence[tuple[Cell, pd.DataFrame]],
    pairs: Sequence[tuple[str, str]],
    stopped: Mapping[str, pd.DataFrame],
) -> go.Figure:
    scenarios = list(dict.fromkeys(cell.scenario for cell, _ in found))
    colour = colours(results)
    titles = [f"{label} · {_short(column)}" for label, column in pairs]
    figure = panels(titles, 3, 210, legend=len(scenarios) > 1)
    listed: set[str] = set()
    for index, (label, column) in enumerate(pairs):
        where = place(index, figure)
        mine = [(cell, _having(points, column)) for cell, points in found if cell.label == label]
        mine = [(cell, points) for cell, points in mine if len(points)]
        edge = _edge([value for _, points in mine for value in points["objective"]], results)
        values: list[object] = []
        for cell, points in mine:
            symbol = SYMBOLS[scenarios.index(cell.scenario) % len(SYMBOLS)]
            hover = f"{plain(_short(column))} = %{{x}}<br>%{{y:.3f}}" + NO_BOX
            hover = f"{plain(cell.name)}/%{{customdata}}<br>{hover}"
            facets = about(label, cell.scenario)
            chosen = points["trial"] == cell.selected_trial
            for some, size, rim, width in (
                (_thinned(points[~chosen]), 8, colour[label], 1),
                (points[chosen], 12, INK, 2),
            ):
                x = [_value(v) for v in some[column]]
                values += x
                marker = {"symbol": symbol, "size": size, "color": fade(colour[label], 0.62)}
                figure.add_trace(
                    go.Scatter(
                        x=x,
                        y=list(some["objective"]),
                        mode="markers",
                        name=cell.scenario,
                        legendgroup=cell.scenario,
                        showlegend=size == 8 and cell.scenario not in listed,
                        marker={**marker, "line": {"color": rim, "width": width}},
                        customdata=[int(n) for n in some["trial"]],
                        hovertemplate=hover,
                        meta=facets,
                    ),
                    **where,
                )
            listed.add(cell.scenario)
            lost = stopped[cell.name]
            lost = _thinned(lost[lost[column].notna()])
            if len(lost):
                figure.add_trace(_crosses(lost, column, edge, facets), **where)
        if spans_decades(values):
            wide = spans_decades(values, 1.7)
            figure.update_xaxes(type="log", dtick=1 if wide else "D2", tickformat="~g", **where)
        elif any(isinstance(v, str) for v in values):
            figure.update_xaxes(type="category", **where)
    figure.update_traces(selector={"showlegend": True}, marker_opacity=1)
    figure.update_yaxes(title_text="objective")
    return figure


def _having(points: pd.DataFrame, column: str) -> pd.DataFrame:
    """The trials with a value in a column: their number, it, and the objective."""
    return points.loc[points[column].notna(), ["trial", "objective", column]]


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """The rows to draw: all, or of more than MOST the BEST first ones and others at even distances."""
    if len(points) <= MOST:
        return points
    rest = np.linspace(BEST, len(points) - 1, MOST - BEST).round().astype(int)
    return points.iloc[[*range(BEST), *rest]]


def _edge(values: Sequence[float], results: Results) -> float:
    """A place for stopped trials, beyond the worst objective of a panel."""
    low, high = min(values), max(values)
    pad = 0.09 * ((high - low) or 0.01)
    return low - pad if results.study.objective[1] == "max" else high + pad


def _crosses(lost: pd.DataFrame, column: str, edge: float, facets: Mapping[str, str]) -> go.Scatter:
    """Stopped trials, in one line."""
    return go.Scatter(
        x=[_value(v) for v in lost[column]],
        y=[edge] * len(lost),
        mode="markers",
        marker={"symbol": "x-thin", "size": 7, "line": {"width": 1.4, "color": STOPPED}},
        showlegend=False,
        customdata=[int(n) for n in lost["trial"]],
        hovertemplate=f"trial %{{customdata}}, stopped<br>{plain(_short(column))} = %{{x}}" + NO_BOX,
        meta=dict(facets),
    )


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


def _effect(cell: Cell, points: pd.DataFrame, column: str, stopped: int) -> dict[str, object]:
    best = points[points["trial"] == cell.selected_trial][column]
    row: dict[str, object] = {
        "scenario": cell.scenario,
        "label": cell.label,
        "hyperparameter": _short(column),
        "best": _text(best.iloc[0]) if len(best) else None,
        "tried": _tried(points[column]),
        "trials": len(points),
        "stopped": stopped,
        "Spearman ρ": None,
    }
    numeric = [_value(v) for v in points[column]]
    if (
        len(set(numeric)) > 2
        and points["objective"].nunique() > 2
        and not any(isinstance(v, str) for v in numeric)
    ):
        row["Spearman ρ"] = rank_correlation(numeric, points["objective"])
    return row


def rank_correlation(a: Sequence[float | str], b: Iterable[float]) -> float:
    """Return Spearman's rank correlation; equal values have the mean of their ranks."""
    ranks = pd.DataFrame({"a": list(a), "b": list(b)}, dtype=float).rank()
    return float(ranks["a"].corr(ranks["b"]))


def _tried(values: pd.Series) -> str:
    known = [_value(v) for v in values]
    if any(isinstance(v, str) for v in known):
        return ", ".join(sorted({str(v) for v in known}))
    numbers = [float(v) for v in known]
    return f"{min(numbers):.4g} to {max(numbers):.4g}"


def _value(value: object) -> float | str:
    """A number, or the text of a truth value or name."""
    if isinstance(value, bool | np.bool_ | str):  # NumPy's: of a column whose values may be missing
        return str(value)
    return float(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    plainly = _value(value)
    return plainly if isinstance(plainly, str) else f"{plainly:.4g}"


def _short(column: str) -> str:
    return column.removeprefix("hp.").removeprefix("recipe.")  # as in the other sections
