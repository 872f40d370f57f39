"""Lines from task to task: a panel a scenario, with the colour, symbol and dash of each label.

Other classifiers than a method's own are dotted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.identity import Identity, about, identities
from analysis.report.style import fade, panels, place
from analysis.statistics.intervals import Mean

FEW = 4  # lines of a panel that have bands


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

    With `bands`, for fractions, panels share their y axis and show intervals: a band behind every line of a
    panel with FEW or fewer lines, else a bar at the end of each.
    """
    names = list(dict.fromkeys(line.scenario for line in lines))
    figure = panels(names, columns=2, height=height, legend=True, shared_y=bands)
    known = identities(results)
    listed: set[tuple[str, str]] = set()  # once in the legend, for all panels
    for line in lines:
        where = place(names.index(line.scenario), figure)
        key = (line.label, line.classifier)
        known_half = bands and bool(line.means) and all(m.half is not None for m in line.means.values())
        crowded = sum(other.scenario == line.scenario for other in lines) > FEW
        if known_half and not crowded:
            figure.add_trace(_band(line, known[line.label].colour), **where)
        figure.add_trace(
            _curve(line, known[line.label], hover, key not in listed, known_half and crowded), **where
        )
        listed.add(key)
    longest = max(max(line.means) for line in lines)
    figure.update_xaxes(tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5)
    return figure


def _curve(line: Line, marks: Identity, hover: str, listed: bool, ended: bool) -> go.Scatter:
    own, label = line.rank == 0, line.label
    ends = [0.0] * (len(line.means) - 1) + [list(line.means.values())[-1].half or 0.0] if ended else None
    return go.Scatter(
        x=list(line.means),
        y=list(line.values.values()),
        name=label if own else f"{label} · {line.classifier}",
        legendgroup=f"{label} {line.classifier}",
        showlegend=listed,
        mode="lines+markers",
        line={
            "color": marks.colour,
            "width": 2.2 if own else 1.4,
            "dash": marks.dash if own else "dot",
        },
        marker={"size": 7 if own else 5, "symbol": marks.symbol},
        error_y=None if ends is None else {"array": ends, "color": marks.colour, "thickness": 1, "width": 2},
        hovertemplate=f"{label} · {line.classifier}<br>{hover}<extra></extra>",
        meta=about(label, line.scenario, line.classifier),
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
        meta=about(line.label, line.scenario, line.classifier),
    )
