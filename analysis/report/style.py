"""The look of figures: small multiples of one size, dark text on white; the page turns them to dark."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.report.identity import about

SEQUENTIAL = [[0.0, "#f6f8fb"], [0.25, "#c5d7ea"], [0.5, "#7fa8d1"], [0.75, "#3a74b0"], [1.0, "#123f70"]]
DASHES = ("solid", "dot", "dash", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star-triangle-up", "hexagon")
INK, GRID, EDGE = "#1d2530", "#e6e9ee", "#b6bec9"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif"


def fade(colour: str, opacity: float) -> str:
    """A colour `#rrggbb` with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def plain(text: object) -> str:
    """Text of a file as a figure may show it: plotly reads a little HTML in labels."""
    return html.escape(str(text), quote=False)


def panels(
    titles: Sequence[str | None], columns: int, height: int, legend: bool = False, shared_y: bool = False
) -> go.Figure:
    """Small multiples, `columns` side by side, each `height` pixels high, titled in order.

    None leaves a place empty.
    """
    columns = max(1, min(columns, len(titles)))
    rows = -(-len(titles) // columns)
    gap, top, bottom = 74, 50, 56 + (46 if legend else 0)
    inner = rows * height + (rows - 1) * gap
    places = [*titles, *[None] * (rows * columns - len(titles))]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        specs=[
            [None if t is None else {} for t in places[r * columns : (r + 1) * columns]] for r in range(rows)
        ],
        subplot_titles=[plain(name) for name in titles if name is not None],
        vertical_spacing=gap / inner if rows > 1 else 0.0,
        horizontal_spacing=min(0.09, 0.27 / columns),
        shared_yaxes="all" if shared_y else False,
    )
    axis = {"gridcolor": GRID, "linecolor": EDGE, "ticks": "outside", "tickcolor": EDGE, "zeroline": False}
    title = {"font": {"size": 12.5}, "standoff": 6}
    layout = figure.layout.to_plotly_json()
    for name in layout:
        if name.startswith(("xaxis", "yaxis")):
            layout[name] |= {**axis, "title": title}
    for one in layout.get("annotations", ()):
        one["font"] = {"size": 13, "color": INK, "family": FONT}
    # All at once: plotly checks the whole figure at every update.
    figure.layout = {
        **layout,
        "template": "plotly_white",
        "height": inner + top + bottom,
        "margin": {"l": 64, "r": 24, "t": top, "b": bottom},
        "font": {"family": FONT, "size": 12.5, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "showlegend": legend,
        "meta": {
            "titles": [name for name in titles if name is not None],
            "columns": columns,
            "height": height,
        },
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -62 / inner, "yanchor": "top"},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
    }
    return figure


def side_by_side(names: Iterable[str]) -> int:
    """Columns of panels whose lines are named at the left: long names need the room of a second one."""
    return 2 if max(map(len, names)) <= 20 else 1


def place(index: int, figure: go.Figure) -> dict[str, int]:
    """Row and column of the place number `index` in a figure of `panels`."""
    _, columns = figure._get_subplot_rows_columns()
    return {"row": index // len(columns) + 1, "col": index % len(columns) + 1}


def matrices(groups: Mapping[str, Sequence[tuple[str, Sequence[Sequence[float]]]]], hover: str) -> go.Figure:
    """Heatmaps [T, T] of shares in [0, 1], tasks down and across, a group beginning a row of its own.

    `groups` maps a scenario to (title, matrix) pairs, a title being "label" or "label · classifier"; numbers
    are written in where there is room.
    """
    largest = max(len(group) for group in groups.values())
    columns = largest if largest <= 6 else 5
    titles: list[str | None] = []
    values: dict[int, Sequence[Sequence[float]]] = {}
    facets: dict[int, dict[str, str]] = {}
    for name, group in groups.items():
        titles += [None] * (-len(titles) % columns)
        for title, matrix in group:
            values[len(titles)] = matrix
            label, _, classifier = title.partition(" · ")
            facets[len(titles)] = about(label, name, classifier)
            titles.append(f"{title}, {name}" if len(groups) > 1 else title)
    titles += [None] * (-len(titles) % columns)
    figure = panels(titles, columns, height=190)
    longest = max(len(matrix) for matrix in values.values())
    for index, matrix in values.items():
        tasks = list(range(len(matrix)))
        figure.add_trace(
            go.Heatmap(
                meta=facets[index],
                z=matrix,
                x=tasks,
                y=tasks,
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
                texttemplate="%{z:.2f}" if len(tasks) <= 6 else None,
                textfont={
                    "size": 10.5,
                    "shadow": "auto",
                },  # else numbers on the middle of the scale are faint
                hovertemplate=hover,
                hoverongaps=False,
            ),
            **place(index, figure),
        )
    bar = {"thickness": 12, "len": 230, "lenmode": "pixels", "y": 1, "yanchor": "top"}
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorscale": SEQUENTIAL, "colorbar": bar})
    if columns < 4:
        figure.update_layout(width=60 + 290 * columns)
    figure.update_xaxes(
        showgrid=False, tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5, constrain="domain"
    )
    figure.update_yaxes(
        showgrid=False, tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5, autorange="reversed"
    )
    return figure
