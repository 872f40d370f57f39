"""A dot with its interval, for figures that compare cells by one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from analysis.report.identity import Identity, about
from analysis.statistics.intervals import Mean


def dot(
    mean: Mean,
    row: str,
    text: str,
    marks: Identity,
    size: float,
    ring: bool = False,
    facets: Mapping[str, str] | None = None,
) -> go.Scatter:
    """Draw a mean in the row of its label, filled or as a ring; `text` is shown over it in the browser.

    `facets` are those of `identity.about`; left out, the row is the label.
    """
    colour = marks.colour
    marker: dict[str, Any] = {"size": size, "color": colour, "symbol": marks.symbol}
    if ring:
        marker |= {"color": "rgba(255,255,255,0)", "line": {"width": 1.8, "color": colour}}
    half = {"array": [mean.half or 0.0], "visible": mean.half is not None}
    return go.Scatter(
        x=[mean.value],
        y=[row],
        mode="markers",
        marker=marker,
        error_x={"type": "data", **half, "thickness": 1.2, "color": colour},  # of a ring's own: invisible
        hovertemplate=f"{text}<extra></extra>",
        meta=about(row) if facets is None else facets,
    )
