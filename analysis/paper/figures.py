"""Figures at the width of a paper's column, as SVG and PDF.

Kaleido, plotly's own renderer, draws the very figures of the report in Chrome or Chromium.
"""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from analysis.report.style import place
from cl_core.errors import BadRequest, first_line

COLUMN, PAGE = 324, 672
"""Widths in pixels of 1/96 inch: 3.375 inches, one column of two, and 7 inches, both columns."""

FORMATS = ("svg", "pdf")
_STACKED = 3  # panels that stand one above the other in a column; more go over both
_ACROSS = 3  # panels side by side over both columns
_GAP = {"l": 46, "r": 10, "t": 26, "b": 40}  # pixels around panels
_BETWEEN = (56, 54)  # pixels between panels, across and down
_FONT, _SMALL = 10.5, 9.5  # pixels of 1/96 inch: 8 and 7 points
_LETTER, _ENTRY, _LINE = 4.8, 40, 16  # pixels of the legend: a letter, an entry's mark, a line
_WIDE_LETTER = 5.6  # pixels of a letter of a title
REMEDY = "pip install 'cl-search[paper]', and install Chrome or Chromium (BROWSER_PATH names another place)"


def fitted(figure: go.Figure) -> tuple[go.Figure, bool]:
    """Return a copy for a paper, and tell whether it goes over both columns. Colours and data stay."""
    out = go.Figure(figure)
    if out._grid_ref is None:  # not made by `style.panels`
        return out.update_layout(width=COLUMN, font={"size": _FONT}), False
    panels = _panels(out)
    wide = len(panels) > _STACKED
    width = PAGE if wide else COLUMN
    across = min(_ACROSS, len(panels)) if wide else 1
    down = -(-len(panels) // across)
    tall = max(110.0, min(_height(figure, len(panels)), 0.75 * (width / across)))
    bar = 44 if out.layout.coloraxis.colorscale else 0
    inner_width = width - _GAP["l"] - _GAP["r"] - bar
    slanted = any(out.layout[x].ticktext for x, _ in panels)  # they stand aslant, and need more room
    between = _BETWEEN[1] + (22 if slanted else 0)
    inner = down * tall + (down - 1) * between
    one = (inner_width - (across - 1) * _BETWEEN[0]) / across
    for index, (x, y) in enumerate(panels):
        column, row = index % across, index // across
        left = column * (one + _BETWEEN[0]) / inner_width
        top = 1 - row * (tall + between) / inner
        out.layout[x].domain = [left, min(1.0, left + one / inner_width)]
        out.layout[y].domain = [max(0.0, top - tall / inner), top]
        if index < len(out.layout.annotations):
            title = out.layout.annotations[index]
            title.x, title.y = left + one / inner_width / 2, top
    legend = _legend_lines(out, inner_width) * _LINE if out.layout.showlegend else 0
    out.update_layout(
        width=width,
        height=inner + _GAP["t"] + _GAP["b"] + legend,
        margin={**_GAP, "b": _GAP["b"] + legend, "r": _GAP["r"] + bar},
        font={"size": _FONT, "family": "Helvetica, Arial, Liberation Sans, sans-serif"},
    )
    if legend:
        out.update_layout(legend={"y": -(_GAP["b"] - 4) / inner, "font": {"size": _SMALL}})
    if bar:
        out.update_coloraxes(colorbar={"len": min(inner, 200), "lenmode": "pixels", "thickness": 8})
        out.update_coloraxes(colorbar={"y": 1, "yanchor": "top", "x": 1.01, "tickfont": {"size": _SMALL}})
    out.update_annotations(font={"size": _FONT})
    out.update_xaxes(tickfont={"size": _SMALL}, title_font_size=_FONT, automargin=True)
    out.update_yaxes(tickfont={"size": _SMALL}, title_font_size=_FONT, automargin=True)
    for x, y in panels:
        for axis, room in ((out.layout[x], one + _GAP["l"]), (out.layout[y], tall + _GAP["b"])):
            if axis.title.text:
                axis.title.text = "<br>".join(textwrap.wrap(axis.title.text, int(room / _WIDE_LETTER)))
        if out.layout[x].ticktext:  # names: a second line of them has no room
            names = [str(name).partition("<br>")[0] for name in out.layout[x].ticktext]
            out.layout[x].update(ticktext=names, tickangle=-30)
    for trace in out.data:
        if getattr(trace, "textfont", None) is not None:
            trace.update(textfont={"size": 7.5 if trace.type == "heatmap" else _SMALL})
    return out, wide


def write(figures: Mapping[Path, go.Figure]) -> list[Path]:
    """Write figures to their paths, with each suffix of FORMATS, in one browser; return the files.

    Raises BadRequest when the renderer or its browser is missing or fails.
    """
    try:
        kaleido: Any = importlib.import_module("kaleido")
    except ImportError as error:
        raise BadRequest(f"figures as SVG and PDF need kaleido: {REMEDY}") from error
    jobs = [
        {
            "fig": figure.to_dict(),
            "path": str(path.with_suffix(f".{suffix}")),
            "opts": {"format": suffix, "width": figure.layout.width, "height": figure.layout.height},
        }
        for path, figure in figures.items()
        for suffix in FORMATS
    ]
    try:
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except (RuntimeError, kaleido.errors.KaleidoError) as error:  # often a browser that is missing
        raise BadRequest(f"figures cannot be drawn: {first_line(error)}: {REMEDY}") from error
    return [Path(job["path"]) for job in jobs]


def _panels(figure: go.Figure) -> list[tuple[str, str]]:
    """The names of the axes of every panel, in order."""
    rows, columns = figure._get_subplot_rows_columns()
    found = []
    for index in range(len(rows) * len(columns)):
        at = place(index, figure)
        ref = figure._grid_ref[at["row"] - 1][at["col"] - 1]
        if ref:
            found.append(ref[0].layout_keys)
    return found


def _height(figure: go.Figure, panels: int) -> float:
    """The height in pixels of a panel as the report shows it."""
    rows = len(figure._get_subplot_rows_columns()[0])
    margin = figure.layout.margin
    inner = (figure.layout.height or 400) - (margin.t or 0) - (margin.b or 0)
    return (inner - (rows - 1) * 74) / rows if panels > 1 else inner


def _legend_lines(figure: go.Figure, width: float) -> int:
    """The lines of the legend below the panels, an estimate."""
    names = [trace.name for trace in figure.data if trace.showlegend is not False and trace.name]
    return math.ceil(sum(len(name) * _LETTER + _ENTRY for name in names) / width + 0.5) if names else 0
