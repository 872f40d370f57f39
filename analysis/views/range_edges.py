"""The best values within their ranges: at an edge, better ones may lie beyond."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.lake.searched_space import Parameter, spaces
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import fade, panels, place, side_by_side
from analysis.selection.range_positions import BEST_TRIALS, EDGE, AtPosition, positions
from analysis.selection.selection import cells, split_selected_on
from analysis.selection.trials import span
from cl_core.hparams import Choice, Int

TITLE = "Values at the edge of their range"
WHOLE = "of the method"


@VIEWS.register("range_edges")
def range_edges(results: Results) -> Section:
    """The place of each cell's selected numbers in their ranges, with a warning for each at an edge."""
    known = spaces(results)
    if known is None:
        text = "No ranges are known: study.yaml does not state them, it was written by an earlier version."
        return Section(TITLE, text, optional=True)
    found = [one for cell in cells(results) for one in positions(results, cell, known.get(cell.name, ()))]
    if not found:
        return Section(TITLE, "No cell has selected a number from a range that it searched.", optional=True)
    at_edge = [one for one in found if one.edge]
    by_chance = sum(_by_chance(one.parameter) for one in found)
    answer = (
        f"{len(at_edge)} of {len(found)} selected numbers lie at an edge: in the first or last {EDGE:.0%} of "
        f"a range, or at an end of a list of numbers. If values did not matter, {by_chance:.1f} would."
    )
    text = f"The figure shows the best {BEST_TRIALS} trials of each cell, the selected one large."
    warned = sorted(at_edge, key=lambda one: not one.all_there)
    text = "\n\n".join([text, *(_warning(one) for one in warned)])
    formulas = [
        "position: (x − low) / (high − low), of logarithms where the range is searched in them; in a list of "
        "numbers, the steps from the smallest / all steps"
    ]
    counts = [one.tried for one in found]
    n = f"n = {span(counts)} completed trials a hyperparameter"
    table = pd.DataFrame(map(_row, found))
    if not table[WHOLE].any():  # every range is the method's own
        table = table.drop(columns=WHOLE)
    figure = _figure(results, found)
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        figure,
        split=split_selected_on(results),
        question="Do the best values lie at an edge of their range?",
        answer=answer,
    )


def _by_chance(p: Parameter) -> float:
    """The probability that a value drawn evenly lies at an edge."""
    if isinstance(p.domain, Choice):
        return 2 / len(p.domain.options)
    if isinstance(p.domain, Int) and not p.domain.log:
        values = range(p.domain.low, p.domain.high + 1)
        width = len(values) - 1
        if width < 1 / EDGE:
            return 2 / len(values)
    return 2 * EDGE


def _warning(one: AtPosition) -> str:
    p = one.parameter
    text = f"Warning: {one.cell.name} selected {p.short} {one.values[0]:.3g} "
    text += f"at the {one.edge} edge of {p.domain}"
    if one.beyond is not None:
        text += f": widen it, {one.beyond:.3g} is allowed"
    elif p.whole is not None:
        text += ": that is the method's whole range, which a study cannot widen"
    else:
        text += ": widen it"
    if one.all_there:
        text += f". The best {BEST_TRIALS} trials all lie there: the best value probably lies beyond"
    return text + "."


def _row(one: AtPosition) -> dict[str, object]:
    p = one.parameter
    return {
        "scenario": one.cell.scenario,
        "label": one.cell.label,
        "hyperparameter": p.short,
        "searched": str(p.domain),
        WHOLE: "" if p.whole is None or p.whole == p.domain else str(p.whole),
        "position": one.positions[0],
        f"best {BEST_TRIALS}, the selected one first": ", ".join(f"{value:.3g}" for value in one.values),
        "edge": one.edge + (" (all)" if one.all_there else ""),
        "trials": one.tried,
    }


def _figure(results: Results, found: Sequence[AtPosition]) -> go.Figure:
    """The position of the best values in their ranges, a line a hyperparameter, a panel a cell."""
    named = list({one.cell.name: one.cell for one in found}.values())
    tall = max(sum(one.cell.name == cell.name for one in found) for cell in named)
    figure = panels(
        [cell.name for cell in named],
        columns=side_by_side(one.parameter.short for one in found),
        height=40 + 28 * tall,
    )
    colour = colours(results)
    for index, cell in enumerate(named):
        where = place(index, figure)
        for one in reversed([one for one in found if one.cell.name == cell.name]):
            figure.add_trace(
                go.Scatter(
                    x=list(reversed(one.positions)),
                    y=[one.parameter.short] * len(one.positions),
                    mode="markers",
                    marker={
                        "size": [8] * (len(one.positions) - 1) + [14],
                        "color": fade(colour[cell.label], 0.6),
                        "line": {"width": 1, "color": colour[cell.label]},
                    },
                    text=[f"{value:.4g}" for value in reversed(one.values)],
                    hovertemplate="%{y} = %{text}<extra></extra>",
                ),
                **where,
            )
    axes = dict.fromkeys((trace.xaxis, trace.yaxis) for trace in figure.data)
    band = {"type": "rect", "y0": 0, "y1": 1, "fillcolor": "#f0cccc", "layer": "below", "line": {"width": 0}}
    figure.layout.shapes = [
        {**band, "xref": x, "yref": f"{y} domain", "x0": low, "x1": high}
        for x, y in axes
        for low, high in ((0, EDGE), (1 - EDGE, 1))
    ]
    figure.update_xaxes(
        range=[-0.04, 1.04],
        tickvals=[0, 0.5, 1],
        ticktext=["lower end", "middle", "upper end"],
        title_text="place in its range",
    )
    figure.update_yaxes(type="category")
    return figure
