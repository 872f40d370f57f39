"""Stacked bars: one bar a label, one colour a part, in a panel for each scenario."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from analysis.report.identity import about
from analysis.report.style import place


def add_part(
    figure: go.Figure,
    panel: int,
    scenario: str,
    part: str,
    colour: str,
    labels: Sequence[str],
    values: Sequence[float],
    hover: str,
) -> None:
    """Add one part of the bars of a panel; its name stands in the legend once. `hover` formats a value."""
    listed = {trace.name for trace in figure.data}
    bar = go.Bar(
        x=list(values),
        y=list(labels),
        orientation="h",
        name=part,
        legendgroup=part,
        showlegend=part not in listed,
        marker={"color": colour},
        meta=about(scenario=scenario),
        hovertemplate=f"%{{y}}, {part}: {hover}<extra></extra>",
    )
    figure.add_trace(bar, **place(panel, figure))


def stack(figure: go.Figure) -> None:
    """Stack the bars, with one label a row."""
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_yaxes(type="category", tickmode="linear", dtick=1)
