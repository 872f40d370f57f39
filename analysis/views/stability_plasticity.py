"""Forgetting against intransigence: what each method loses of old tasks, and misses of new ones.

Intransigence is the accuracy on a new task that joint training reaches and the method does not (A. Chaudhry
et al., "Riemannian Walk", ECCV 2018). Joint training is trained anew on all tasks so far after every task, so
it is the reference of that paper. Where a scenario has none, the proxy is 1 − R[k][k]: an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.answers import decimal
from analysis.report.identity import about, identities
from analysis.report.section import VIEWS, Section
from analysis.report.style import EDGE, panels, place
from analysis.selection.reference import other_recipe
from analysis.selection.selection import Cell, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted, errors
from analysis.statistics.intervals import INTERVAL, Mean
from analysis.statistics.sample import Pairs, Sample
from cl_core.metrics import FORMULAS, accuracy_matrix, forgetting

TITLE = "Stability and plasticity"
_JOINT = "joint"


@dataclass(frozen=True)
class Balance:
    """A cell with its two errors; `reference` is the label of joint training, or why there is none."""

    cell: Cell
    forgetting: Mean
    intransigence: Mean
    reference: str

    @property
    def lost(self) -> float:
        """The sum of the two errors, by which cells are compared."""
        return (self.forgetting.value or 0.0) + (self.intransigence.value or 0.0)


@VIEWS.register("stability_plasticity")
def stability_plasticity(results: Results) -> Section:
    """Forgetting against intransigence of each cell's best trial, after the last task."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    learnt = {cell.name: _measured(results, cell, split) for cell in compared}
    found = [_balance(results, cell, compared, learnt) for cell in compared]
    found = [one for one in found if one.forgetting.value is not None and one.intransigence.value is not None]
    if not found:
        return Section(TITLE, "No completed run has a second task: nothing can be forgotten.", optional=True)
    text = (
        f"{same_sentence(split)} Forgetting is lost stability, intransigence is missing "
        "plasticity; a method without either lies at the origin. Intransigence is measured against joint "
        "training of the same scenario and class order; below 0 a method learns new tasks better than joint "
        "training, which also keeps the old ones. Where there is no joint training, the error on the new "
        "task stands in, an upper bound, and the table says so."
    )
    formulas = [
        f"forgetting: {FORMULAS['forgetting']}",
        "intransigence: 1/(T−1) · Σ_{k≥1} (R*[k][k] − R[k][k]), R* of joint training on tasks 0 to k "
        "(Chaudhry et al., ECCV 2018); without joint training R* = 1",
        INTERVAL,
    ]
    return Section(
        TITLE,
        text,
        formulas,
        orders_sentence(compared),
        pd.DataFrame([_row(one) for one in found]),
        _figure(results, found),
        split=split,
        question="Does a method forget old tasks, or fail to learn new ones?",
        answer=_answer(found),
    )


def _measured(results: Results, cell: Cell, split: str) -> Mapping[str, Pairs]:
    """Return forgetting and the mean accuracy on a new task right after it, by class order."""
    out: dict[str, Pairs] = {"forgetting": [], "plasticity": []}
    for run, order in zip(cell.best["run"], cell.best["class_order"].astype(str), strict=True):
        counts, sizes = results.confusions(run, split), results.sizes(run)
        if len(counts) < 2:
            continue
        matrix, error = accuracy_matrix(counts, sizes), errors(counts, sizes)
        learnt = float(np.diag(matrix)[1:].mean())
        out["forgetting"].append((order, Counted(forgetting(matrix), error["forgetting"])))
        out["plasticity"].append((order, Counted(learnt, error["plasticity"])))
    return out


def _balance(
    results: Results, cell: Cell, compared: Sequence[Cell], learnt: Mapping[str, Mapping[str, Pairs]]
) -> Balance:
    forgotten, own = (Sample.of(learnt[cell.name][name]) for name in ("forgetting", "plasticity"))
    joints = [one for one in compared if one.scenario == cell.scenario and one.method == _JOINT]
    joints.sort(key=lambda one: len(other_recipe(results, cell, one)))
    reached = [(one, Sample.of(learnt[one.name]["plasticity"]) - own) for one in joints]
    known = next(((one, gap) for one, gap in reached if len(gap)), None)
    if known is None:
        missing = Sample({order: 1.0 - value for order, value in own.values.items()}, own.variances)
        return Balance(cell, forgotten.mean, missing.mean, "none: 1 − R[k][k]")
    said = known[0].label + (", of another recipe" if other_recipe(results, cell, known[0]) else "")
    return Balance(cell, forgotten.mean, known[1].mean, said)


def _answer(found: Sequence[Balance]) -> str:
    """Name the cell of each scenario with the smallest sum of both errors, references aside."""
    parts = []
    for scenario in dict.fromkeys(one.cell.scenario for one in found):
        here = [one for one in found if one.cell.scenario == scenario]
        methods = [one for one in here if one.cell.method not in (_JOINT, "finetune")] or here
        best = min(methods, key=lambda one: one.lost)
        parts.append(
            f"In {scenario}, {best.cell.label} has the smallest sum of both: "
            f"forgetting {decimal(best.forgetting.value or 0.0)}, "
            f"intransigence {decimal(best.intransigence.value or 0.0)}."
        )
    return " ".join(parts)


def _row(one: Balance) -> dict[str, object]:
    return {
        "scenario": one.cell.scenario,
        "label": one.cell.label,
        "forgetting": one.forgetting.value,
        "forgetting ±": one.forgetting.half,
        "intransigence": one.intransigence.value,
        "intransigence ±": one.intransigence.half,
        "sum": one.lost,
        "joint training": one.reference,
    }


def _figure(results: Results, found: Sequence[Balance]) -> go.Figure:
    names = list(dict.fromkeys(one.cell.scenario for one in found))
    figure = panels(names, columns=2, height=330, legend=True)
    mark = identities(results)
    listed: set[str] = set()
    for one in found:
        ink, symbol = mark[one.cell.label].colour, mark[one.cell.label].symbol
        dot = go.Scatter(
            x=[one.intransigence.value],
            y=[one.forgetting.value],
            error_x={"array": [one.intransigence.half or 0.0], "thickness": 1, "width": 0, "color": ink},
            error_y={"array": [one.forgetting.half or 0.0], "thickness": 1, "width": 0, "color": ink},
            mode="markers",
            name=one.cell.label,
            legendgroup=one.cell.label,
            showlegend=one.cell.label not in listed,
            marker={"size": 9, "color": ink, "symbol": symbol, "line": {"width": 1.6, "color": ink}},
            meta=about(one.cell.label, one.cell.scenario),
            hovertemplate=f"{one.cell.label}<br>%{{x:.3f}}, %{{y:.3f}}<extra></extra>",
        )
        figure.add_trace(dot, **place(names.index(one.cell.scenario), figure))
        listed.add(one.cell.label)
    x, y = ([getattr(one, name).value or 0.0 for one in found] for name in ("intransigence", "forgetting"))
    figure.update_xaxes(title_text="intransigence (lower learns new tasks better)", range=_span(x))
    figure.update_yaxes(title_text="forgetting (lower is better)", range=_span(y))
    figure.update_xaxes(zeroline=True, zerolinecolor=EDGE, zerolinewidth=1)
    figure.update_yaxes(zeroline=True, zerolinecolor=EDGE, zerolinewidth=1)
    return figure


def _span(values: Sequence[float]) -> list[float]:
    """The ends of an axis by its points and zero. An interval of two class orders can be far wider."""
    low, high = min(0.0, *values), max(0.0, *values)
    pad = 0.25 * (high - low) + 0.02
    return [low - pad, high + pad]
