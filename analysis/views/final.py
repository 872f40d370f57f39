"""The selected trials on the sealed test set, beside their published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import colours, panels, place
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
    """A cell on the test set; `same` where the choice is the default itself."""

    cell: Cell
    choice: Values
    default: Values
    same: bool


@VIEWS.register("final")
def final(results: Results) -> Section:
    """Test metrics of choice and default, and their paired difference."""
    judged = [_judged(results, cell) for cell in cells(results)]
    judged = [one for one in judged if one.choice["last_accuracy"] or one.default["last_accuracy"]]
    if not judged:
        return Section(
            TITLE, "No final run has ended: `cl-search evaluate` opens the test set.", optional=True
        )
    metric = _metric(results)
    rows = [row for one in judged for row in _rows(one)]
    differences = _differences(judged, metric)
    orders = sorted({len(one.choice[metric]) for one in judged})
    return Section(
        TITLE,
        _text(results),
        [f"{title}: {FORMULAS[key]}" for key, title in METRIC_TITLES.items()]
        + [INTERVAL, "p: that of zero, by the larger of both laws; Holm's correction over the cells"],
        f"n = {span(orders)} class order{'' if orders == [1] else 's'}, each with seeds that the search "
        "never used; ± is the half width of the 95 % interval over class orders",
        pd.DataFrame(rows),
        _figure(results, judged, metric),
        tables=[] if differences is None else [differences],
        optional=True,
        split="test",
    )


def _text(results: Results) -> str:
    where = {"gtep": "test rows of the classes or data set that no choice has seen"}
    select = results.study.protocol.select_on
    if select == "chf":
        return (
            "Each cell trained again and measured on test rows. Hyperparameters are chosen inside each run, "
            "on validation rows of its own tasks, which stay held out: choice and default are one, and no "
            "search before it leaves a selection gap."
        )
    return (
        "Each cell's chosen trial and its published default, trained again on training and "
        f"validation rows and measured on {where.get(select, 'test rows')}. Both have the same class orders "
        "and seeds, so their differences are paired; the seeds of an order are averaged first."
    )


def _metric(results: Results) -> str:
    """The metric to compare: the first objective, or average incremental accuracy in place of a cost."""
    name = results.study.objective[0]
    return name if name in METRICS else "average_incremental_accuracy"


def _judged(results: Results, cell: Cell) -> Evaluated:
    default, choice = final_default(results, cell), cell.final
    same = len(choice) > 0 and set(choice["run"]) == set(default["run"])
    return Evaluated(cell, _values(results, choice), _values(results, default), same)


def _values(results: Results, runs: pd.DataFrame) -> Values:
    """Every metric of runs on test rows."""
    return {name: Sample.of(found) for name, found in measured(results, runs, "test").items()}


def _rows(one: Evaluated) -> list[dict[str, Any]]:
    """A row for the choice and one for the default; one for both where they are the same."""
    named = {f"trial {one.cell.selected_trial}": one.choice, "default": one.default}
    if one.same:
        named = {"default is the choice": one.choice}
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
    """Choice minus default, paired by class order."""
    shown = [one for one in judged if not one.same and one.choice[metric] - one.default[metric]]
    if not shown:
        return None
    p = {one.cell.name: (one.choice[metric] - one.default[metric]).p_of_zero for one in shown}
    known = {name: value for name, value in p.items() if value is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    rows = []
    for one in shown:
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label}
        for key in dict.fromkeys((metric, "last_accuracy")):
            found = (one.choice[key] - one.default[key]).mean
            title = METRIC_TITLES.get(key, key.replace("_", " "))
            row[title], row[f"{title} ±"] = found.value, found.half
        corrected = adjusted.get(one.cell.name)
        row["p"], row["p, Holm"] = p[one.cell.name], corrected
        orders = len(one.choice[metric] - one.default[metric])
        difference = row[METRIC_TITLES.get(metric, metric.replace("_", " "))]
        row["shown"] = too_few(orders) or _shown(difference, corrected, METRICS[metric][0])
        row["class orders"] = orders
        rows.append(row)
    title = METRIC_TITLES.get(metric, metric.replace("_", " "))
    text = f"Paired by class order; p is of {title}, corrected over {len(known)} cells."
    return Table("Choice minus default", pd.DataFrame(rows), text)


def _shown(difference: float, p: float | None, direction: str) -> str:
    if p is None or p > ALPHA:
        return "undecided"
    return "choice is better" if (difference > 0) == (direction == "max") else "default is better"


def _figure(results: Results, judged: list[Evaluated], metric: str) -> go.Figure:
    """Choice (filled) and default (ring) with their intervals; a panel a scenario."""
    names = list(dict.fromkeys(one.cell.scenario for one in judged))
    tall = max(sum(one.cell.scenario == scenario for one in judged) for scenario in names)
    figure = panels(names, columns=2, height=40 + 34 * tall)
    colour = colours(results)
    for index, scenario in enumerate(names):
        mine = [one for one in judged if one.cell.scenario == scenario]
        for one in sorted(mine, key=lambda one: one.choice[metric].mean.value or 0.0):
            label = one.cell.label
            ring = {
                "size": 13,
                "color": "rgba(255,255,255,0)",
                "line": {"width": 1.8, "color": colour[label]},
            }
            marks = {"default": (one.default, ring)}
            marks[f"trial {one.cell.selected_trial}"] = (one.choice, {"size": 10, "color": colour[label]})
            for name, (values, marker) in marks.items():
                known = values[metric].mean
                if known.value is None:
                    continue
                figure.add_trace(
                    go.Scatter(
                        x=[known.value],
                        y=[label],
                        mode="markers",
                        marker=marker,
                        error_x={
                            "type": "data",
                            "array": [known.half or 0.0],
                            "visible": known.half is not None,
                            "thickness": 1.2,
                            "color": colour[label],  # else that of the mark, and a ring has none
                        },
                        hovertemplate=f"{label}: {name}<br>%{{x:.3f}}<extra></extra>",
                    ),
                    **place(index, figure),
                )
    figure.update_xaxes(title_text=f"{metric.replace('_', ' ')}, test rows")
    figure.update_yaxes(type="category", showgrid=True)
    return figure
