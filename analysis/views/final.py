"""What the chosen configurations come to on the sealed test set, beside their published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.gap import FORMULAS as GAP_FORMULAS
from analysis.gap import Pairs, Station, parts, value_of
from analysis.load import Results
from analysis.section import VIEWS, Section, Table
from analysis.selection import Cell, cells, final_default, objective, protocol_of
from analysis.stats import ALPHA, by_order, holm, over_orders, p_of_zero, paired
from analysis.style import colours, panels, place
from cl_core.metrics import FORMULAS, METRICS, summary

TITLE = "Final evaluation"
SHOWN = {
    "average_incremental_accuracy": "average incremental accuracy",
    "average_incremental_accuracy_without_first": "without first task",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}

Values = Mapping[str, Pairs]  # metric -> (class order, value) of every run


@dataclass(frozen=True)
class Judged:
    """A cell on the test set; `same` where the choice is the default itself."""

    cell: Cell
    choice: Values
    default: Values
    same: bool


@VIEWS.register("final")
def final(results: Results) -> Section:
    """Test metrics of choice and default, their paired difference, and the parts of the selection gap."""
    judged = [_judged(results, cell) for cell in cells(results)]
    judged = [one for one in judged if one.choice["last_accuracy"] or one.default["last_accuracy"]]
    if not judged:
        return Section(
            TITLE, "No final run has ended: `cl-search evaluate` opens the test set.", optional=True
        )
    metric = _metric(results)
    rows = [row for one in judged for row in _rows(one)]
    gap = _gap(results, judged, metric)
    tables = [_differences(judged, metric), gap]
    orders = sorted({len(by_order(one.choice[metric])) for one in judged})
    span = str(orders[0]) if len(orders) == 1 else f"{orders[0]} to {orders[-1]}"
    return Section(
        TITLE,
        _text(results),
        [f"{title}: {FORMULAS[key]}" for key, title in SHOWN.items()]
        + [f"{name}: {text}" for name, text in GAP_FORMULAS.items() if gap and name in gap.frame.columns]
        + ["p: Student's t on the paired differences, two-sided; Holm's correction over the cells"],
        f"n = {span} class order{'' if orders == [1] else 's'}, each with seeds that the search never used; "
        "± is the half width of the 95 % t-interval over class orders",
        pd.DataFrame(rows),
        _figure(results, judged, metric),
        tables=[one for one in tables if one is not None],
        optional=True,
    )


def _text(results: Results) -> str:
    protocol = protocol_of(results)
    where = {"gtep": "test rows of the classes or data set that no choice has seen"}
    select = protocol["select_on"]
    if select == "chf":
        return (
            "Each cell trained again and measured on test rows. Hyperparameters are chosen inside each run, "
            "on validation rows of its own tasks, which stay held out: choice and default are one, and no "
            "search before it leaves a selection gap."
        )
    return (
        "Each cell's chosen configuration and its published default, trained again on training and "
        f"validation rows and measured on {where.get(select, 'test rows')}. Both have the same class orders "
        "and seeds, so their differences are paired; the seeds of an order are averaged first."
    )


def _metric(results: Results) -> str:
    """What is compared: the study's first objective, or average incremental accuracy where that is a cost."""
    name = objective(results)[0]
    return name if name in METRICS else "average_incremental_accuracy"


def _judged(results: Results, cell: Cell) -> Judged:
    default, choice = final_default(results, cell), cell.final
    same = len(choice) > 0 and set(choice["trial"]) == set(default["trial"])
    return Judged(cell, _values(results, choice), _values(results, default), same)


def _values(results: Results, runs: pd.DataFrame, split: str = "test", tasks: int | None = None) -> Values:
    """Every metric of runs by the primary classifier on `split`, over their first `tasks` tasks or all."""
    out: dict[str, list[tuple[str, float | None]]] = {name: [] for name in METRICS}
    results.fetch(list(runs["trial"]))
    for trial, order in zip(runs["trial"], runs["class_order"], strict=True):
        counts = results.confusions(trial, split)[:tasks]
        values = summary(counts, results.sizes(trial)) if counts else {}
        for name in METRICS:
            out[name].append((str(order), values.get(name)))
    return out


def _rows(one: Judged) -> list[dict[str, Any]]:
    """A row for the choice and one for the default; one for both where they are the same."""
    named = {f"no. {one.cell.number}": one.choice, "default": one.default}
    if one.same:
        named = {"default is the choice": one.choice}
    out = []
    for name, values in named.items():
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label, "configuration": name}
        for key, title in SHOWN.items():
            known = over_orders(values[key])
            row[title], row[f"{title} ±"] = known.value, known.half
        row["class orders"] = len(by_order(values["last_accuracy"]))
        out.append(row)
    return out


def _differences(judged: list[Judged], metric: str) -> Table | None:
    """Choice minus default, paired by class order."""
    shown = [one for one in judged if not one.same and _pairs(one, metric)]
    if not shown:
        return None
    p = {one.cell.name: p_of_zero(_pairs(one, metric)) for one in shown}
    known = [name for name in p if p[name] is not None]
    adjusted = dict(zip(known, holm([p[name] or 0.0 for name in known]), strict=True))
    rows = []
    for one in shown:
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label}
        for key in dict.fromkeys((metric, "last_accuracy")):
            found = paired(one.choice[key], one.default[key])
            title = SHOWN.get(key, key.replace("_", " "))
            row[title], row[f"{title} ±"] = found.value, found.half
        corrected = adjusted.get(one.cell.name)
        row["p"], row["p, Holm"] = p[one.cell.name], corrected
        row["shown"] = _shown(row[SHOWN.get(metric, metric.replace("_", " "))], corrected, METRICS[metric][0])
        row["class orders"] = len(_pairs(one, metric))
        rows.append(row)
    title = SHOWN.get(metric, metric.replace("_", " "))
    text = f"Paired by class order; p is of {title}, corrected over {len(known)} cells."
    return Table("Choice minus default, on test rows", pd.DataFrame(rows), text)


def _pairs(one: Judged, metric: str) -> list[float]:
    left, right = by_order(one.choice[metric]), by_order(one.default[metric])
    return [left[order] - right[order] for order in left if order in right]


def _shown(difference: float, p: float | None, direction: str) -> str:
    if p is None or p > ALPHA:
        return "undecided"
    return "choice is better" if (difference > 0) == (direction == "max") else "default is better"


def _gap(results: Results, judged: list[Judged], metric: str) -> Table | None:
    """The selection gap of every cell in its parts."""
    name, direction = objective(results)
    protocol = protocol_of(results)
    if name != metric or protocol["select_on"] == "chf":
        return None
    aggregate = "worst" if protocol.get("aggregate") == "worst" else "mean"
    rows, open_, used = [], [], set[str]()
    for one in (one for one in judged if one.choice[metric]):
        stations = _stations(results, one, metric, protocol)
        row: dict[str, Any] = {"scenario": one.cell.scenario, "label": one.cell.label}
        if stations is None:
            open_.append(one.cell.name)
            continue
        row["selected by"] = value_of(stations[0].runs, aggregate, direction)
        for part in parts(stations, aggregate, direction):
            used.add(part.name)
            row[part.name], row[f"{part.name} ±"] = part.value, part.half
        row["final"] = value_of(one.choice[metric], aggregate, direction)
        if stations[-1].runs == one.choice[metric]:
            row["gap"] = row["selected by"] - row["final"]
        rows.append(row)
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    wanted = [c for part in GAP_FORMULAS if part in used for c in (part, f"{part} ±")]
    frame = frame.reindex(columns=["scenario", "label", "selected by", *wanted, "final", "gap"])
    empty = [c for c in frame.columns if frame[c].isna().all() and (str(c).endswith(" ±") or c == "gap")]
    frame = frame.drop(columns=empty)
    text = _gap_text(protocol, name, direction, "gap" in frame)
    if open_:
        text += f" Left out until all of their runs have completed: {', '.join(open_)}."
    return Table("Selection gap", frame, text)


def _gap_text(protocol: Mapping[str, Any], name: str, direction: str, summed: bool) -> str:
    sign = "above" if direction == "max" else "below"
    text = f"“Selected by” is the {name.replace('_', ' ')} that the search chose the configuration by"
    text += ", the worst over its runs" if protocol.get("aggregate") == "worst" else ""
    if protocol["select_on"] == "first-k":
        k = protocol.get("first")
        text += f", over the first {k} tasks; the rerun is compared with it over the same {k} tasks"
    if protocol["select_on"] == "oracle-test":
        text += ", on test rows: there is no other split to move to"
    text += "."
    if summed:
        text += f" The parts sum to the gap; what lies {sign} zero was promised and is not there."
    else:
        text += (
            " The final value is of other classes or another data set, so there is no part from more data "
            "and nothing to sum to: the parts are those of the data that was searched on."
        )
    return text


def _stations(
    results: Results, one: Judged, metric: str, protocol: Mapping[str, Any]
) -> list[Station] | None:
    """The measurements from the value that the choice was selected by to its final one; None where runs
    are missing."""
    chosen = one.cell.selected
    searched: Pairs = list(zip(map(str, chosen["class_order"]), chosen["objective"], strict=True))
    runs = one.cell.evaluation
    rerun = runs[
        (runs["purpose"] == "reference")
        & (runs["status"] == "completed")
        & runs["config"].isin(one.cell.ranking["config"].head(1))
    ]
    orders = list(dict.fromkeys(order for order, _ in searched))
    final_orders = list(dict.fromkeys(order for order, _ in one.choice[metric]))
    if not {*orders, *final_orders} <= set(rerun["class_order"]) or not final_orders:
        return None
    select = protocol["select_on"]
    split = "test" if select == "oracle-test" else "val"
    first = protocol.get("first") if select == "first-k" else None

    def again(split: str, wanted: list[str], tasks: int | None = None) -> Pairs:
        return _values(results, rerun[rerun["class_order"].isin(wanted)], split, tasks)[metric]

    out = [Station("", searched), Station("winner's curse", again(split, orders, first))]
    if set(orders) != set(final_orders):
        out.append(Station("class orders", again(split, final_orders, first)))
    if first is not None:
        out.append(Station("later tasks", again(split, final_orders)))
    if split == "val":
        out.append(Station("test split", again("test", final_orders)))
    if select != "gtep":
        out.append(Station("more data", one.choice[metric]))
    if any(not by_order(station.runs) for station in out):
        return None
    return out


def _figure(results: Results, judged: list[Judged], metric: str) -> go.Figure:
    """Choice (filled) and default (ring) with their intervals; a panel a scenario."""
    names = list(dict.fromkeys(one.cell.scenario for one in judged))
    tall = max(sum(one.cell.scenario == scenario for one in judged) for scenario in names)
    figure = panels(names, columns=2, height=40 + 34 * tall)
    colour = colours(results)
    for index, scenario in enumerate(names):
        mine = [one for one in judged if one.cell.scenario == scenario]
        for one in sorted(mine, key=lambda one: over_orders(one.choice[metric]).value or 0.0):
            label = one.cell.label
            ring = {
                "size": 13,
                "color": "rgba(255,255,255,0)",
                "line": {"width": 1.8, "color": colour[label]},
            }
            marks = {"default": (one.default, ring)}
            marks[f"no. {one.cell.number}"] = (one.choice, {"size": 10, "color": colour[label]})
            for name, (values, marker) in marks.items():
                known = over_orders(values[metric])
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
