"""Chance in a cell's winner: would another draw of the same budget have selected another trial?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from analysis.report.style import fade, panels, place
from analysis.selection.row_errors import OWN, row_errors
from analysis.selection.selection import Cell, best_first, cells, split_selected_on
from analysis.selection.trials import ADAPTIVE, best_of_trainings, ranked, span, trials
from analysis.statistics.redraws import REDRAWS, Array, Redrawn, by_draw, by_noise, by_order, order_errors
from cl_core.metrics import METRICS

TITLE = "Stability of the winner"
WORSE = 0.005  # half a point
SOURCES = {"draw": "#2f6f9f", "rows": "#d9662b", "orders": "#2a9167"}
CHANCES = {"draw": "another draw of trials", "rows": "other rows", "orders": "other class orders"}


@VIEWS.register("winner_stability")
def winner_stability(results: Results) -> Section:
    """The share of redraws with another winner under three kinds of chance, and the loss."""
    shown = [cell for cell in cells(results) if len(ranked(results, cell)) > 1]
    if not shown:
        return Section(TITLE, "No cell has two completed trials to select from.", optional=True)
    table = pd.DataFrame([_row(results, cell) for cell in shown])
    table = table.drop(columns=[c for c in table.columns if table[c].isna().all()])
    name = results.study.objective[0]
    orders = any(key.startswith("orders") for key in table.columns)
    rows = any(key.startswith("rows") for key in table.columns)
    count = ("one source", "two sources, each taken alone", "three sources, each taken alone")[rows + orders]
    text = (
        f"How often another trial would have won by {name.replace('_', ' ')} had chance fallen "
        f"otherwise, how often one that is {'more than half a point ' if name in METRICS else ''}worse, and "
        "how much is lost on average by choosing as one did (both judged by the values measured here). "
        f"Chance has {count}:\n\n"
        "draw: other trials are drawn, as many as were tried. That another wins is no more than that "
        "the winner is not drawn again, about 36 % in any cell; what it costs is what differs."
    )
    if rows:
        text += (
            "\n\nrows: the same trials are measured on other rows of the same split. Counts do not "
            "tell which rows were right, so two things are assumed. Trials are redrawn "
            "independently, although all were asked the same rows, which overstates the noise of their "
            "differences. "
            "Rows right after one task are right after another as often as can be where the objective adds "
            "tasks, and independently where it subtracts them, which overstates the noise too: both err on "
            "the side of caution."
        )
    if orders:
        text += "\n\norders: other class orders are drawn, the same ones for all trials of a cell."
    if results.study.reuses:
        text += "\n\nTrials that share a training count once, with the best of them."
    text += _about_sampler(results, shown)
    formulas = [
        "draw, exact: of N ended trials drawn with replacement, the i-th best wins with probability "
        "w_i = ((N−i+1)/N)^N − ((N−i)/N)^N; loss = Σ_i w_i · (v_1 − v_i); stopped and failed ones never win",
        "rows: SE² = Σ_k 1/n_k Σ_{t,s} max(0, w_{tk} w_{sk}) · (min(p_{tk}, p_{sk}) − p_{tk} p_{sk}), w the "
        "weight of task k's accuracy after task t in the objective, p = (right + 1) / (rows + 2), for the "
        f"best {OWN} trials of a cell (the others get their mean); {REDRAWS:,} redraws v_i + SE_i · z",
        "runs of one trial: SE of the mean = √(Σ_r SE_r²) / R; where the worst counts, its own",
        "orders: bootstrap over class orders, seeds averaged within an order; SE by their spread, and never "
        "below that of rows",
        "within one SE: trials with v_i ≥ v_1 − SE_1, the winner included",
    ]
    n = f"n = {span(table['ended'])} ended trials a cell"
    figure = _figure(table)
    losses = [c for c in ("rows: loss", "orders: loss", "draw: loss") if c in table]
    worst = table.iloc[int(np.argmax(table[losses].max(axis=1)))]
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        figure,
        split=split_selected_on(results),
        question="Would another trial have won by other luck, and at what loss?",
        answer=f"By chance alone, a selected trial falls short of the best one by "
        f"{table[losses].max(axis=1).mean():.3f}, mean over {plural(len(table), 'cell')}; most in "
        f"{worst['label']}@{worst['scenario']}, by {worst[losses].max():.3f}. A cell counts with its largest "
        "kind of chance.",
    )


def _about_sampler(results: Results, shown: Sequence[Cell]) -> str:
    sampler = results.study.sampler
    if sampler in ADAPTIVE:
        return (
            f"\n\nThe sampler {sampler} learns from what it has seen, so another search would not draw from "
            "these trials alone: the draw column is an approximation, given those that were asked."
        )
    if sampler == "grid":
        return (
            "\n\nA grid that was tried whole has no other draw; the draw column then says what as many "
            "points drawn at random from it would have found."
        )
    return ""


def _row(results: Results, cell: Cell) -> dict[str, object]:
    name, direction = results.study.objective
    sign = -1.0 if direction == "min" else 1.0
    table = best_of_trainings(ranked(results, cell), direction).pipe(best_first, direction)
    values = sign * table["objective"].to_numpy(dtype=np.float64)
    ended = len(best_of_trainings(trials(results, cell), direction))
    draw = np.random.default_rng(0)  # the same page for the same tables
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label, "trial": int(table["trial"][0])}
    row |= {"ended": ended, "completed": len(table)}
    margin = WORSE if name in METRICS else 0.0  # bytes and seconds have no half a point
    row |= _columns("draw", by_draw(values, ended, margin))
    errors = row_errors(results, cell, table, name)
    noise = None if errors is None else by_noise(values, errors, margin, draw, REDRAWS)
    row |= _columns("rows", noise)
    row["rows: SE"] = None if errors is None else float(errors[0])
    row["rows: within one SE"] = None if errors is None else int((values >= values[0] - errors[0]).sum())
    groups = _by_order(cell, table, sign)
    several = None if groups is None or groups.shape[1] < 2 else groups
    worst = results.study.protocol.worst
    redrawn = None if several is None else by_order(several, worst, margin, draw, REDRAWS)
    row |= _columns("orders", redrawn)
    error = None if several is None else float(order_errors(several)[0])
    if error is not None and errors is not None:
        error = max(error, float(errors[0]))
    row["orders: SE"] = error
    row["orders: within one SE"] = None if error is None else int((values >= values[0] - error).sum())
    return row


def _columns(source: str, found: Redrawn | None) -> dict[str, object]:
    names = {"another wins": "another", "clearly worse wins": "worse", "loss": "loss"}
    return {f"{source}: {title}": found and getattr(found, key) for title, key in names.items()}


def _by_order(cell: Cell, table: pd.DataFrame, sign: float) -> Array | None:
    """[n, orders]: the value of every ranked trial on each class order; None where one lacks some."""
    runs = cell.runs
    wide = runs[runs["trial"].isin(table["trial"])].pivot_table(
        index="trial", columns="class_order", values="objective", aggfunc="mean"
    )
    wide = wide.reindex(table["trial"])
    out: Array = sign * wide.to_numpy(dtype=np.float64)
    return None if np.isnan(out).any() else out


def _figure(table: pd.DataFrame) -> go.Figure:
    """The share of clearly worse winners and the loss, a bar a source; two panels a scenario."""
    names = list(dict.fromkeys(table["scenario"]))
    titles = [title for name in names for title in (f"{name}: a clearly worse trial wins", f"{name}: loss")]
    tall = int(table.groupby("scenario").size().max())
    figure = panels(titles, columns=2, height=60 + 40 * tall, legend=True)
    for index, scenario in enumerate(names):
        mine = table[table["scenario"] == scenario].iloc[::-1]  # plotly draws upwards
        for source, colour in SOURCES.items():
            for shift, column in enumerate(("clearly worse wins", "loss")):
                if f"{source}: {column}" not in mine:
                    continue
                figure.add_trace(
                    go.Bar(
                        x=list(mine[f"{source}: {column}"].astype(float)),
                        y=list(mine["label"]),
                        orientation="h",
                        name=CHANCES[source],
                        legendgroup=source,
                        showlegend=index == 0 and shift == 0,
                        marker={"color": fade(colour, 0.85)},
                        hovertemplate=f"%{{y}}, {source}: %{{x:.3f}}<extra></extra>",
                    ),
                    **place(2 * index + shift, figure),
                )
        figure.update_xaxes(title_text="share of redraws", range=[0, 1], **place(2 * index, figure))
        figure.update_xaxes(title_text="loss", rangemode="tozero", **place(2 * index + 1, figure))
    figure.update_layout(barmode="group")
    figure.update_yaxes(type="category")
    return figure
