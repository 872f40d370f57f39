"""The selected trials on the sealed test set, beside their published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.dots import dot
from analysis.report.identity import identities
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import panels, place
from analysis.selection.selection import Cell, cells, final_default
from analysis.selection.trials import span
from analysis.statistics.intervals import ALPHA, INTERVAL, holm, too_few
from analysis.statistics.sample import Sample, measured
from cl_core.metrics import FORMULAS, METRICS

TITLE = "Final evaluation"
METRIC_TITLES = {
    "average_incremental_accuracy": "average incremental accuracy",
    "average_incremental_accuracy_without_first": "without first task",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}

Values = Mapping[str, Sample]  # by metric


@dataclass(frozen=True)
class Evaluated:
    """A cell on the test set; `same` where the default itself is selected."""

    cell: Cell
    selected: Values
    default: Values
    same: bool


@VIEWS.register("final")
def final(results: Results) -> Section:
    """Test metrics of selected trial and default, and their paired difference."""
    judged = [_judged(results, cell) for cell in cells(results)]
    judged = [one for one in judged if one.selected["last_accuracy"] or one.default["last_accuracy"]]
    if not judged:
        return Section(
            TITLE, "No final run has ended: `cl-search evaluate` opens the test set.", optional=True
        )
    metric = _metric(results)
    rows = [row for one in judged for row in _rows(one)]
    differences = _differences(judged, metric)
    orders = sorted({len(one.selected[metric]) for one in judged})
    return Section(
        TITLE,
        _text(results),
        [f"{title}: {FORMULAS[key]}" for key, title in METRIC_TITLES.items()]
        + [INTERVAL, "p: that of zero, by the larger of both laws; Holm's correction over the cells"],
        f"n = {span(orders)} class order{'' if orders == [1] else 's'}, each with seeds that the search "
        "has not used; ± is the half width of the 95 % interval over class orders",
        pd.DataFrame(rows),
        _figure(results, judged, metric),
        tables=[] if differences is None else [differences],
        optional=True,
        split="test",
        question="How good are the selected trials on test rows, beside their defaults?",
        answer=_answer(differences, metric),
    )


def _answer(differences: Table | None, metric: str) -> str:
    """The sentence on the cells whose selected trial and default differ."""
    if differences is None:
        return "No cell has both a selected trial and another default on test rows."
    shown = differences.frame["shown"]
    selected, default = (int((shown == f"{one} is better").sum()) for one in ("selected", "default"))
    said = METRIC_TITLES.get(metric, metric.replace("_", " "))
    return (
        f"By {said}, the selected trial is better than the default in {selected} of "
        f"{plural(len(shown), 'cell')}, the default in {default}; the others are not decided."
    )


def _text(results: Results) -> str:
    where = {"gtep": "test rows of the classes or data set that no selection has seen"}
    select = results.study.protocol.select_on
    if select == "chf":
        return (
            "Each cell is trained again and measured on test rows. Hyperparameters are selected inside each "
            "run, on validation rows of its own tasks, which stay held out. So selected trial and default "
            "are the same, and there is no selection gap."
        )
    if select == "adaptive":
        return (
            "Each cell is trained again and measured on test rows. The selected trial searches its values "
            "again at every task, on validation rows, which stay held out; the published default has fixed "
            "values and trains on these rows as well. Both have the same class orders and seeds, so their "
            "differences are paired."
        )
    return (
        "Each cell's selected trial and its published default are trained again on training and validation "
        f"rows. They are measured on {where.get(select, 'test rows')}. Both have the same class orders and "
        "seeds, so their differences are paired. The seeds of an order are averaged first."
    )


def _metric(results: Results) -> str:
    """The metric to compare: the first objective, or average incremental accuracy in place of a cost."""
    name = results.study.objective[0]
    return name if name in METRICS else "average_incremental_accuracy"


def _judged(results: Results, cell: Cell) -> Evaluated:
    default, selected = final_default(results, cell), cell.final
    same = len(selected) > 0 and set(selected["run"]) == set(default["run"])
    return Evaluated(cell, _values(results, selected), _values(results, default), same)


def _values(results: Results, runs: pd.DataFrame) -> Values:
    """Every metric of runs on test rows."""
    return {name: Sample.of(found) for name, found in measured(results, runs, "test").items()}


def _rows(one: Evaluated) -> list[dict[str, Any]]:
    """Return a row for the selected trial and one for the default; one row where they are the same."""
    named = {one.cell.selected_name: one.selected, "default": one.default}
    if one.same:
        named = {"default is selected": one.selected}
    out = []
    for name, values in named.items():
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label, "trial": name}
        for key, title in METRIC_TITLES.items():
            known = values[key].mean
            row[title], row[f"{title} ±"] = known.value, known.half
        row["class orders"] = len(values["last_accuracy"])
        out.append(row)
    return out


def _differences(judged: list[Evaluated], metric: str) -> Table | None:
    """Return selected trial minus default, paired by class order; None where no cell has both."""
    shown = [one for one in judged if not one.same and one.selected[metric] - one.default[metric]]
    if not shown:
        return None
    p = {one.cell.name: (one.selected[metric] - one.default[metric]).p_of_zero for one in shown}
    known = {name: value for name, value in p.items() if value is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    rows = []
    for one in shown:
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label}
        for key in dict.fromkeys((metric, "last_accuracy")):
            found = (one.selected[key] - one.default[key]).mean
            title = METRIC_TITLES.get(key, key.replace("_", " "))
            row[title], row[f"{title} ±"] = found.value, found.half
        corrected = adjusted.get(one.cell.name)
        row["p"], row["p, Holm"] = p[one.cell.name], corrected
        orders = len(one.selected[metric] - one.default[metric])
        difference = row[METRIC_TITLES.get(metric, metric.replace("_", " "))]
        row["shown"] = too_few(orders) or _shown(difference, corrected, METRICS[metric][0])
        row["class orders"] = orders
        rows.append(row)
    title = METRIC_TITLES.get(metric, metric.replace("_", " "))
    text = f"Paired by class order; p is of {title}, corrected over {plural(len(known), 'cell')}."
    return Table("Selected trial minus default", pd.DataFrame(rows), text)


def _shown(difference: float, p: float | None, direction: str) -> str:
    if p is None or p > ALPHA:
        return "undecided"
    return "selected is better" if (difference > 0) == (direction == "max") else "default is better"


def _figure(results: Results, judged: list[Evaluated], metric: str) -> go.Figure:
    """Draw selected trial (filled) and default (ring) with their intervals; a panel a scenario."""
    names = list(dict.fromkeys(one.cell.scenario for one in judged))
    tall = max(sum(one.cell.scenario == scenario for one in judged) for scenario in names)
    figure = panels(names, columns=2, height=40 + 34 * tall)
    identity = identities(results)
    for index, scenario in enumerate(names):
        mine = [one for one in judged if one.cell.scenario == scenario]
        for one in sorted(mine, key=lambda one: one.selected[metric].mean.value or 0.0):
            label = one.cell.label
            marks = (("default", one.default, 13, True), (one.cell.selected_name, one.selected, 10, False))
            for name, values, size, ring in marks:
                known = values[metric].mean
                if known.value is not None:
                    shown = dot(known, label, f"{label}: {name}<br>%{{x:.3f}}", identity[label], size, ring)
                    figure.add_trace(shown, **place(index, figure))
    figure.update_xaxes(title_text=f"{metric.replace('_', ' ')}, test rows; rings: published values")
    figure.update_yaxes(type="category", showgrid=True)
    return figure
