"""The training loss of every task at the selected trial, and whether it had levelled off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.identity import about, colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import DASHES, panels, place
from analysis.selection.selection import Cell, cells, orders_sentence

TITLE = "Training loss"
_PANELS = 24  # cells of the figure; the table has all of them
_TRAIN = "train"  # the main phase of most methods
_EPOCHS = 3  # fewest epochs for a slope at the end
_STEEP = 0.5  # of the mean slope: then the loss has not levelled off

Losses = Mapping[tuple[int, str], Sequence[float]]
"""(task, phase) -> the loss of each epoch."""


@VIEWS.register("training_loss")
def training_loss(results: Results) -> Section:
    """The loss of each epoch, task after task, the mean over the selected trial's runs; a panel a cell."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    runs = [run for cell in compared for run in cell.best["run"]]
    rows = results.read("phases", runs) if runs else results.phases.iloc[:0]
    rows = rows.assign(loss=rows["value"] * rows["weight"])
    found = [(cell, _losses(rows[rows["run"].isin(cell.best["run"])])) for cell in compared]
    found = [(cell, losses) for cell, losses in found if losses]
    if not found:
        return Section(TITLE, "No completed run has recorded its loss.", optional=True)
    table = pd.DataFrame([_row(cell, losses) for cell, losses in found])
    left = f" The figure shows the first {_PANELS} cells." if len(found) > _PANELS else ""
    text = (
        "The loss is the sum of all terms, each times its weight, on training images. Solid lines are the "
        "main phase of a task, dotted ones its other phases. Losses of different methods have different "
        f"terms: compare slopes, not heights.{left}"
    )
    formulas = [
        "loss of an epoch: Σ weight · value over its terms, the mean over runs",
        "slope at the end: (L_{E−1} − L_E) · (E − 1) / (L_1 − L_E) of a task's main phase of E epochs; "
        "the mean over tasks whose loss falls; 1 is as steep as on average, 0 is level",
    ]
    return Section(
        TITLE,
        text,
        formulas,
        orders_sentence(compared, ""),
        table,
        _figure(results, found),
        question="Had training levelled off?",
        answer=_answer(table),
    )


def _losses(rows: pd.DataFrame) -> Losses:
    total = rows.groupby(["run", "task", "phase", "epoch"], as_index=False)["loss"].sum()
    means = total.groupby(["task", "phase", "epoch"])["loss"].mean()
    return {
        (int(task), str(phase)): [float(value) for value in group]
        for (task, phase), group in means.groupby(level=["task", "phase"])
    }


def _main(losses: Losses) -> dict[int, str]:
    """The main phase of each task: the one named train, else the first by name."""
    out: dict[int, str] = {}
    for task, phase in losses:
        if task not in out or phase == _TRAIN:
            out[task] = phase
    return out


def _slope(values: Sequence[float]) -> float | None:
    """The slope at the end over the mean slope; None for few epochs, or a loss that does not fall."""
    fall = values[0] - values[-1]
    if len(values) < _EPOCHS or not np.isfinite(fall) or fall <= 0:
        return None
    return (values[-2] - values[-1]) * (len(values) - 1) / fall


def _row(cell: Cell, losses: Losses) -> dict[str, object]:
    main = _main(losses)
    last = losses[max(main), main[max(main)]]
    slopes = [slope for task, phase in main.items() if (slope := _slope(losses[task, phase])) is not None]
    return {
        "scenario": cell.scenario,
        "label": cell.label,
        "phases": ", ".join(dict.fromkeys(phase for _, phase in losses)),
        "epochs of the last task": len(last),
        "first loss": last[0],
        "last loss": last[-1],
        "slope at the end": float(np.mean(slopes)) if slopes else None,
    }


def _answer(table: pd.DataFrame) -> str:
    known = table[table["slope at the end"].notna()]
    if known.empty:
        return ""
    steep = known[known["slope at the end"] >= _STEEP]
    if steep.empty:
        every = plural(len(known), "cell")
        return f"Yes: in none of {every} does the last epoch fall at half the mean slope or more."
    named = ", ".join(dict.fromkeys(map(str, steep["label"].head(4))))
    more = " and others" if len(steep) > 4 else ""
    return (
        f"Not in {len(steep)} of {plural(len(known), 'cell')} ({named}{more}): there the last epoch falls "
        "at half the mean slope or more, so more epochs may help."
    )


def _figure(results: Results, found: Sequence[tuple[Cell, Losses]]) -> go.Figure:
    shown = found[:_PANELS]
    several = len({cell.scenario for cell, _ in shown}) > 1
    figure = panels([f"{c.label}, {c.scenario}" if several else c.label for c, _ in shown], 3, 180)
    colour = colours(results)
    for index, (cell, losses) in enumerate(shown):
        main = _main(losses)
        for (task, phase), values in losses.items():
            own = main[task] == phase
            line = go.Scatter(
                x=[task + (epoch + 1) / len(values) for epoch in range(len(values))],
                y=values,
                mode="lines",
                line={
                    "color": colour[cell.label],
                    "width": 2 if own else 1.4,
                    "dash": DASHES[0 if own else 1],
                },
                showlegend=False,
                meta=about(cell.label, cell.scenario),
                hovertemplate=f"task {task}, {phase}: %{{y:.3g}}<extra></extra>",
            )
            figure.add_trace(line, **place(index, figure))
    figure.update_xaxes(title_text="task", tickmode="linear", tick0=0, dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure
