"""Lines from task to task: a panel a scenario, a colour a label, dotted for other classifiers than a method's
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.identity import colours
from analysis.report.style import DASHES, fade, panels, place
from analysis.statistics.intervals import Mean


@dataclass(frozen=True)
class Line:
    """One classifier of a cell: a mean over class orders at each place. `rank` 0 is the method's own."""

    scenario: str
    label: str
    rank: int
    classifier: str
    means: Mapping[int, Mean]

    @property
    def values(self) -> dict[int, float | None]:
        """The means without their intervals."""
        return {at: mean.value for at, mean in self.means.items()}


def drawn(
    results: Results, lines: Sequence[Line], hover: str, height: int = 300, bands: bool = False
) -> go.Figure:
    """The figure of one line or more; `hover` formats a point.

    With `bands`, for fractions, the interval stands behind every line that has one everywhere, and panels
    share their y axis.
    """
    names = list(dict.fromkeys(line.scenario for line in lines))
    figure = panels(names, columns=2, height=height, legend=True, shared_y=bands)
    colour = colours(results)
    listed: set[tuple[str, str]] = set()  # once in the legend, for all panels
    for line in lines:
        where = place(names.index(line.scenario), figure)
        key = (line.label, line.classifier)
        if bands and line.means and all(mean.half is not None for mean in line.means.values()):
            figure.add_trace(_band(line, colour[line.label]), **where)
        figure.add_trace(_curve(line, colour[line.label], hover, key not in listed), **where)
        listed.add(key)
    longest = max(max(line.means) for line in lines)
    figure.update_xaxes(tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5)
    return figure


def _curve(line: Line, colour: str, hover: str, listed: bool) -> go.Scatter:
    own, label = line.rank == 0, line.label
    return go.Scatter(
        x=list(line.means),
        y=list(line.values.values()),
        name=label if own else f"{label} · {line.classifier}",
        legendgroup=f"{label} {line.classifier}",
        showlegend=listed,
        mode="lines+markers",
        line={
            "color": colour,
            "width": 2.2 if own else 1.4,
            "dash": DASHES[min(line.rank, len(DASHES) - 1)],
        },
        marker={"size": 6 if own else 4},
        hovertemplate=f"{label} · {line.classifier}<br>{hover}<extra></extra>",
    )


def _band(line: Line, colour: str) -> go.Scatter:
    x, means = list(line.means), line.means.values()
    low = [(m.value or 0.0) - (m.half or 0.0) for m in means]
    high = [(m.value or 0.0) + (m.half or 0.0) for m in means]
    return go.Scatter(
        x=x + x[::-1],
        y=np.clip(high + low[::-1], 0, 1),
        mode="lines",
        fill="toself",
        fillcolor=fade(colour, 0.13),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=f"{line.label} {line.classifier}",
    )
