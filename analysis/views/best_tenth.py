"""The values that the best trials have in common: parallel coordinates of each cell's search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.identity import about, colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import EDGE, panels, place, plain
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.selection.trials import ranked, span
from analysis.views.hyperparameters import searched, spans_decades

TITLE = "Values of the best trials"
_FEWEST = 10  # completed trials of a cell
_FEW_CHOICES = 3
_BEST = 10  # one in so many trials, and three at least
_OTHERS = 40  # lines of other trials a panel, evenly over their ranks
_PANELS = 16


@dataclass(frozen=True)
class Searched:
    """The trials of a cell, the best first: the place of each value in the range tried, from 0 to 1.

    `ticks` are the ranges in words, by hyperparameter.
    """

    cell: Cell
    places: pd.DataFrame
    ticks: dict[str, str]
    best: int

    @property
    def names(self) -> list[str]:
        """The hyperparameters."""
        return list(map(str, self.places.columns))

    def width(self, name: str) -> float:
        """Return the share of the tried range that the best trials span."""
        mine = self.places[name].head(self.best).dropna()
        return float(mine.max() - mine.min()) if len(mine) else math.nan


@VIEWS.register("best_tenth")
def best_tenth(results: Results) -> Section:
    """Parallel coordinates of each cell's trials: the best tenth over the others."""
    found = [one for cell in cells(results) if (one := _searched(results, cell)) is not None]
    if not found:
        text = f"No cell has {_FEWEST} completed trials that differ in two hyperparameters."
        return Section(TITLE, text, optional=True)
    name, direction = results.study.objective
    table = pd.DataFrame([row for one in found for row in _rows(one)])
    left = f" The figure shows the first {_PANELS} cells." if len(found) > _PANELS else ""
    text = (
        f"A line is a trial; coloured ones are the best tenth of their cell by {name.replace('_', ' ')} "
        f"({direction}) on {rows_selected_on(results)}. Grey ones are others, {_OTHERS} at most, evenly over "
        "their ranks. A narrow bundle marks a value that the best trials share, or one that the sampler "
        f"tried most near its best.{left}"
    )
    formulas = [
        "place: (x − lowest tried) / (highest − lowest), of log x where the values span more than a factor "
        "of ten; names in alphabetical order",
        "share of the range: highest − lowest place of the best tenth, three trials at least",
    ]
    return Section(
        TITLE,
        text,
        formulas,
        f"n = {span(len(one.places) for one in found)} completed trials a cell",
        table,
        _figure(results, found),
        optional=True,
        split=split_selected_on(results),
        question="Which values do the best trials share?",
        answer=_answer(found),
    )


def _searched(results: Results, cell: Cell) -> Searched | None:
    points = ranked(results, cell)
    if len(points) < _FEWEST:
        return None
    columns = searched(points)
    known = {column.removeprefix("hp.").removeprefix("recipe."): _place(points[column]) for column in columns}
    if len(known) < 2:
        return None
    places = pd.DataFrame({name: values for name, (values, _) in known.items()})
    best = max(3, math.ceil(len(points) / _BEST))
    return Searched(cell, places, {name: said for name, (_, said) in known.items()}, best)


def _place(values: pd.Series) -> tuple[pd.Series, str]:
    """The place of each value in [0, 1] of the range tried, and the range in words."""
    known = values.dropna().tolist()  # of Python's types
    if any(isinstance(value, str | bool) for value in known):
        names = sorted({str(value) for value in known})
        at = {name: index / max(1, len(names) - 1) for index, name in enumerate(names)}
        places = values.map(lambda value: math.nan if pd.isna(value) else at[str(value)])
        return places.astype(float), " … ".join(dict.fromkeys((names[0], names[-1])))
    numbers = values.astype(float)
    said = f"{numbers.min():.3g} … {numbers.max():.3g}"
    if spans_decades([float(value) for value in known]):
        numbers = numbers.map(math.log, na_action="ignore")
    low, high = float(numbers.min()), float(numbers.max())
    return (numbers - low) / (high - low), said


def _rows(one: Searched) -> list[dict[str, object]]:
    return [
        {
            "scenario": one.cell.scenario,
            "label": one.cell.label,
            "hyperparameter": name,
            "range tried": one.ticks[name],
            "trials": len(one.places),
            "best trials": one.best,
            "share of the range": one.width(name),
        }
        for name in one.names
    ]


def _answer(found: Sequence[Searched]) -> str:
    """Name the hyperparameter that the best trials of a cell agree most on."""
    pairs = [(one.width(name), name, one) for one in found for name in one.names]
    # Of few choices, three trials often have the same by chance.
    known = [p for p in pairs if not math.isnan(p[0]) and p[2].places[p[1]].nunique() > _FEW_CHOICES]
    if not known:
        return ""
    width, name, one = min(known, key=lambda pair: pair[0])
    return (
        f"The best {one.best} of {len(one.places)} trials of {one.cell.label} in {one.cell.scenario} agree "
        f"most on {name}: they span {width:.0%} of the range tried."
    )


def _figure(results: Results, found: Sequence[Searched]) -> go.Figure:
    shown = found[:_PANELS]
    several = len({one.cell.scenario for one in shown}) > 1
    titles = [f"{one.cell.label}, {one.cell.scenario}" if several else one.cell.label for one in shown]
    figure = panels(titles, 2, 200)
    colour = colours(results)
    for index, one in enumerate(shown):
        where = place(index, figure)
        others = one.places.iloc[one.best :]
        thinned = others.iloc[
            np.unique(np.linspace(0, len(others) - 1, min(_OTHERS, len(others))).astype(int))
        ]
        for rows, ink, width in (
            (thinned, EDGE, 0.8),
            (one.places.head(one.best), colour[one.cell.label], 1.8),
        ):
            line = go.Scatter(
                x=[at for _ in range(len(rows)) for at in (*range(len(rows.columns)), None)],
                y=[y for row in rows.to_numpy().round(4).tolist() for y in (*row, None)],
                mode="lines+markers",
                line={"color": ink, "width": width},
                marker={"size": 4 if ink != EDGE else 2.5},
                meta=about(one.cell.label, one.cell.scenario),
                hoverinfo="skip",
                showlegend=False,
            )
            figure.add_trace(line, **where)
        ticks = [
            f"{plain(name)}<br><span style='font-size:9px'>{plain(one.ticks[name])}</span>"
            for name in one.names
        ]
        figure.update_xaxes(
            tickvals=list(range(len(ticks))),
            ticktext=ticks,
            tickangle=0,
            range=[-0.35, len(ticks) - 0.65],
            **where,
        )
    figure.update_yaxes(range=[-0.05, 1.05], tickvals=[0, 1], ticktext=["low", "high"])
    figure.update_xaxes(tickfont={"size": 10.5})
    return figure
