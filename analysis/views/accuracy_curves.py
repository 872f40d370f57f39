"""Accuracy over the classes seen so far, from task to task, each classifier apart."""

from __future__ import annotations

import pandas as pd

from analysis.lake.results import Results
from analysis.report.answers import least_and_most, methods
from analysis.report.lines import Line, drawn
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted, share
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Pairs, Sample
from cl_core.metrics import FORMULAS, step_accuracy

TITLE = "Accuracy over tasks"


@VIEWS.register("accuracy_curves")
def accuracy_curves(results: Results) -> Section:
    """Step accuracy of each cell's best trial; the band is the interval over class orders."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    lines = []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        points: dict[int, Pairs] = {}
        for run, order in runs:
            counts = results.confusions(run, split, classifier)
            for task, value in enumerate(map(float, step_accuracy(counts))):
                points.setdefault(task, []).append((order, Counted(value, share(value, counts[task].sum()))))
        means = {task: Sample.of(points[task]).mean for task in sorted(points)}
        lines.append(Line(cell.scenario, cell.label, rank, classifier, means))
    if not lines:
        return Section(TITLE, "No completed run has evaluated rows, so there is no curve to draw.")
    figure = drawn(results, lines, "task %{x}: %{y:.3f}", height=330, bands=True)
    figure.update_xaxes(title_text="after task")
    figure.update_yaxes(title_text="accuracy over seen classes", range=[0, 1.02], showticklabels=True)
    table = pd.DataFrame(
        [
            {
                "scenario": line.scenario,
                "label": line.label,
                "classifier": line.classifier,
                **{f"A{task}": value for task, value in line.values.items()},
            }
            for line in lines
        ]
    )
    text = f"{same_sentence(split)} Dotted lines are classifiers other than a method's own."
    return Section(
        TITLE,
        text,
        [FORMULAS["step_accuracy"], INTERVAL],
        orders_sentence(compared, "bands, or bars at the end of crowded lines, are"),
        table,
        figure,
        split=split,
        question="How does accuracy fall as tasks are added?",
        answer=_answer(results, table),
    )


def _answer(results: Results, table: pd.DataFrame) -> str:
    """The sentence on the accuracy after the last task of each scenario."""
    steps = [c for c in table.columns if c[1:].isdigit()]
    end = table.assign(end=table[steps].ffill(axis=1).iloc[:, -1])
    text = least_and_most(end, "end", "ends lowest", "highest", methods(results))
    return f"Accuracy over all classes after the last task: {text}" if text else ""
