"""The two parts of accuracy: finding the task of a row, and the class within that task.

G. Kim et al., "A Theoretical Study on Solving Continual Learning", NeurIPS 2022, split class-incremental
accuracy into these two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.identity import about, identities
from analysis.report.section import VIEWS, Section
from analysis.report.style import EDGE, fade, panels, place
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted, share
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Pairs, Sample
from cl_core.metrics import task_accuracy, task_counts

TITLE = "Finding the task, and the class within it"
_JOINT = "joint"  # it finds tasks by training on all of them
TASK, CLASS, BOTH = "P(task)", "P(class | task)", "accuracy"
_LEVELS = tuple(np.arange(1, 10) / 10)  # accuracies whose curves are drawn


@VIEWS.register("task_and_class")
def task_and_class(results: Results) -> Section:
    """P(task) and P(class | task) after the last task, whose product is the last accuracy."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    rows = []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        found: dict[str, Pairs] = {TASK: [], CLASS: [], BOTH: []}
        for run, order in runs:
            confusion, sizes = results.confusions(run, split, classifier)[-1], results.sizes(run)
            asked, right = float(confusion.sum()), float(np.trace(confusion))
            home = float(np.trace(task_counts(confusion, sizes)))
            if len(task_counts(confusion, sizes)) < 2 or not asked:
                continue
            task = task_accuracy(confusion, sizes)
            within = right / home if home else None
            found[TASK].append((order, Counted(task, share(task, asked))))
            found[CLASS].append((order, Counted(within, 0.0 if within is None else share(within, home))))
            found[BOTH].append((order, Counted(right / asked, share(right / asked, asked))))
        if not found[BOTH]:
            continue
        row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label, "classifier": classifier}
        for name, pairs in found.items():
            mean = Sample.of(pairs).mean
            row[name], row[f"{name} ±"] = mean.value, mean.half
        rows.append(row | {"rank": rank})
    if not rows:
        return Section(
            TITLE, "No completed run has a second task, so the task is never in doubt.", optional=True
        )
    table = pd.DataFrame(rows)
    figure = _figure(results, table)
    table = table.drop(columns="rank")
    text = (
        f"{same_sentence(split)} A row is right if it is answered with a class of its "
        "own task, and then with its own class. Dotted curves join points of one accuracy, a tenth apart. "
        "Open marks are classifiers other than a method's own."
    )
    formulas = [
        "P(task): rows answered with a class of their own task / rows, after the last task",
        "P(class | task): right answers / rows answered with a class of their own task",
        "accuracy = P(task) · P(class | task), the last accuracy",
        INTERVAL,
    ]
    return Section(
        TITLE,
        text,
        formulas,
        orders_sentence(compared),
        table,
        figure,
        split=split,
        question="Is finding the task harder than finding the class within it?",
        answer=_answer(table, {cell.label for cell in compared if cell.method == _JOINT}),
    )


def _answer(table: pd.DataFrame, joint: Collection[str]) -> str:
    """Say of how many classifiers the task is the harder part, and which finds it most often.

    The labels of `joint` training are not named unless there is no other.
    """
    harder = int((table[TASK] < table[CLASS]).sum())
    others = table[~table["label"].isin(joint)]
    methods = table if others.empty else others
    best = methods.iloc[int(methods[TASK].to_numpy().argmax())]
    return (
        f"Finding the task is the harder part for {harder} of {plural(len(table), 'classifier')}: there "
        f"P(task) is below P(class | task). {best['label']} ({best['classifier']}) in {best['scenario']} "
        f"finds it most often, in {best[TASK]:.3f} of the rows."
    )


def _figure(results: Results, table: pd.DataFrame) -> go.Figure:
    names: Sequence[str] = list(dict.fromkeys(table["scenario"]))
    figure = panels(names, columns=2, height=340, legend=True)
    mark = identities(results)
    halves = {name: table[f"{name} ±"].astype(float).fillna(0.0) for name in (TASK, CLASS)}
    spans = {
        name: (
            max(0.0, (table[name] - halves[name]).min() - 0.05),
            min(1.05, (table[name] + halves[name]).max() + 0.05),
        )
        for name in (TASK, CLASS)
    }
    for index in range(len(names)):
        for level in _LEVELS:
            x = np.linspace(max(level, spans[TASK][0]), spans[TASK][1], 60)
            y = level / x
            inside = (y >= spans[CLASS][0]) & (y <= spans[CLASS][1])
            if level < spans[TASK][1] and inside.any():
                curve = go.Scatter(
                    x=x[inside],
                    y=y[inside],
                    mode="lines",
                    line={"color": EDGE, "width": 1, "dash": "dot"},
                    hovertemplate=f"accuracy {level:.1f}<extra></extra>",
                    showlegend=False,
                )
                figure.add_trace(curve, **place(index, figure))
    listed: set[str] = set()
    for row in table.to_dict("records"):
        ink, own = mark[row["label"]].colour, row["rank"] == 0
        said = row["label"] if own else f"{row['label']} · {row['classifier']}"
        dot = go.Scatter(
            x=[row[TASK]],
            y=[row[CLASS]],
            error_x={"array": [_half(row[f"{TASK} ±"])], "thickness": 1, "width": 0, "color": fade(ink, 0.5)},
            error_y={
                "array": [_half(row[f"{CLASS} ±"])],
                "thickness": 1,
                "width": 0,
                "color": fade(ink, 0.5),
            },
            mode="markers",
            name=said,
            legendgroup=said,
            showlegend=said not in listed,
            marker={
                "size": 10,
                "color": ink,
                "symbol": _symbol(mark[row["label"]].symbol, own),
                "line": {"width": 1.6, "color": ink},
            },
            meta=about(row["label"], row["scenario"], row["classifier"]),
            hovertemplate=f"{said}<br>P(task) %{{x:.3f}}<br>P(class | task) %{{y:.3f}}<extra></extra>",
        )
        figure.add_trace(dot, **place(names.index(row["scenario"]), figure))
        listed.add(said)
    figure.update_xaxes(title_text=TASK, range=spans[TASK])
    figure.update_yaxes(title_text=CLASS, range=spans[CLASS])
    return figure


def _half(value: float | None) -> float:
    return 0.0 if value is None or pd.isna(value) else value


def _symbol(symbol: str, own: bool) -> str:
    """The mark of a paradigm, open for classifiers other than a method's own."""
    return symbol if own or symbol.endswith("-open") else f"{symbol}-open"
