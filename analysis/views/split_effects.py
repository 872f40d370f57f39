"""The effect of the split: a base task, the size of the increments, and the class order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.answers import decimal
from analysis.report.identity import about, identities
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels, place
from analysis.selection.selection import Cell, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Sample, measured
from cl_core.metrics import FORMULAS

TITLE = "Effects of the split"
_SHOWN = {"last_accuracy": "last accuracy", "forgetting": "forgetting"}
_REFERENCES = ("finetune", "joint")


@dataclass(frozen=True)
class SplitValues:
    """A cell, the classes of its tasks, and its metrics by class order."""

    cell: Cell
    sizes: tuple[int, ...]
    values: Mapping[str, Sample]


@VIEWS.register("split_effects")
def split_effects(results: Results) -> Section:
    """Last accuracy and forgetting of each label in every split of the same classes."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    groups: dict[tuple[str, int], list[SplitValues]] = {}
    for cell in compared:
        sizes = results.sizes(str(cell.best["run"].iloc[0]))
        values = {name: Sample.of(pairs) for name, pairs in measured(results, cell.best, split).items()}
        if len(sizes) > 1 and len(values["last_accuracy"]):
            data = results.places[cell.scenario][0]
            groups.setdefault((data, sum(sizes)), []).append(SplitValues(cell, sizes, values))
    groups = {key: found for key, found in groups.items() if len({one.cell.scenario for one in found}) > 1}
    if not groups:
        return Section(TITLE, "No two splits of the same classes have completed runs.", optional=True)
    found = [one for group in groups.values() for one in _sorted(group)]
    text = (
        f"{same_sentence(split)} Only splits of the same data and number of classes are compared. Last "
        "accuracy is over all of them, so it compares across splits; an average over tasks does not. The "
        "standard deviation over class orders is the effect of the order."
    )
    return Section(
        TITLE,
        text,
        [*(f"{said}: {FORMULAS[name]}" for name, said in _SHOWN.items()), INTERVAL],
        orders_sentence([one.cell for one in found]),
        pd.DataFrame([_row(one) for one in found]),
        _figure(results, groups),
        split=split,
        question="What do base task, increments and class order change?",
        answer=_answer(groups),
    )


def _sorted(group: Sequence[SplitValues]) -> list[SplitValues]:
    """By base task, then by increments, the labels in the study's order."""
    return sorted(group, key=lambda one: (one.sizes[0], one.sizes[1:]))


def _row(one: SplitValues) -> dict[str, object]:
    row: dict[str, object] = {
        "scenario": one.cell.scenario,
        "label": one.cell.label,
        "base classes": one.sizes[0],
        "increments": f"{len(one.sizes) - 1} × {one.sizes[1]}"
        if len(set(one.sizes[1:])) == 1
        else ", ".join(map(str, one.sizes[1:])),
    }
    for name, said in _SHOWN.items():
        mean = one.values[name].mean
        row[said], row[f"{said} ±"] = mean.value, mean.half
    known = list(one.values["last_accuracy"].values.values())
    row["sd over class orders"] = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return row


def _answer(groups: Mapping[tuple[str, int], Sequence[SplitValues]]) -> str:
    """The gain between the two most distant splits of each data set, over the labels that have both."""
    parts = []
    for (data, classes), group in groups.items():
        methods = [one for one in group if one.cell.method not in _REFERENCES] or list(group)
        by: dict[str, dict[str, float]] = {}
        for one in methods:
            by.setdefault(one.cell.scenario, {})[one.cell.label] = (
                one.values["last_accuracy"].mean.value or 0.0
            )
        pairs = {
            (low, high): [by[high][label] - by[low][label] for label in by[low] if label in by[high]]
            for low, high in itertools.permutations(by, 2)
        }
        pairs = {pair: gains for pair, gains in pairs.items() if gains}
        if not pairs:
            continue
        (low, high), gains = max(pairs.items(), key=lambda item: float(np.mean(item[1])))
        where = f" ({data}, {classes} classes)" if len(groups) > 1 else ""
        parts.append(
            f"{high} gives {decimal(float(np.mean(gains)), '+')} in last accuracy over "
            f"{low}{where}, mean over {plural(len(gains), 'label')}; "
            f"{sum(gain > 0 for gain in gains)} gain."
        )
    return " ".join(parts)


def _figure(results: Results, groups: Mapping[tuple[str, int], Sequence[SplitValues]]) -> go.Figure:
    several = len(groups) > 1
    titles = [f"{said}, {data}" if several else said for data, _ in groups for said in _SHOWN.values()]
    figure = panels(titles, 2, 280, legend=True)
    mark, listed = identities(results), set()
    for number, group in enumerate(groups.values()):
        ordered = _sorted(group)
        ticks = list(dict.fromkeys(one.cell.scenario for one in ordered))
        labels = list(dict.fromkeys(one.cell.label for one in ordered))
        for index, name in enumerate(_SHOWN):
            where = place(2 * number + index, figure)
            for at, label in enumerate(labels):
                mine = [one for one in ordered if one.cell.label == label]
                shift = min(0.04, 0.4 / len(labels)) * (
                    at - (len(labels) - 1) / 2
                )  # so that intervals stand side by side
                means = [one.values[name].mean for one in mine]
                line = go.Scatter(
                    x=[ticks.index(one.cell.scenario) + shift for one in mine],
                    y=[mean.value for mean in means],
                    error_y={"array": [mean.half or 0.0 for mean in means], "thickness": 1, "width": 0},
                    mode="lines+markers",
                    name=label,
                    legendgroup=label,
                    showlegend=label not in listed,
                    line={"color": mark[label].colour, "dash": mark[label].dash, "width": 2},
                    marker={"symbol": mark[label].symbol, "size": 7},
                    meta=about(label),
                    hovertemplate=f"{label}: %{{y:.3f}}<extra></extra>",
                )
                figure.add_trace(line, **where)
                listed.add(label)
            figure.update_xaxes(tickvals=list(range(len(ticks))), ticktext=ticks, **where)
    return figure
