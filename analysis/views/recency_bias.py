"""The preference of a classifier for the newest task, after every task."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.lake.results import Results
from analysis.report.answers import least_and_most, methods
from analysis.report.lines import Line, drawn
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted, share
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Pairs, Sample
from cl_core import metrics
from cl_core.metrics import FORMULAS, Counts, recency_ratio, task_counts

TITLE = "Recency bias"


@VIEWS.register("recency_bias")
def recency_bias(results: Results) -> Section:
    """The recency ratio after each task from the second on, each classifier apart."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    lines, rows = [], []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        points: dict[int, Pairs] = {}
        for run, order in runs:
            counts, sizes = results.confusions(run, split, classifier), results.sizes(run)
            for task, confusion in enumerate(counts[1:], start=1):
                points.setdefault(task, []).append((order, _ratio(confusion, sizes)))
        if not points:
            continue
        means = {task: Sample.of(points[task]).mean for task in sorted(points)}
        lines.append(Line(cell.scenario, cell.label, rank, classifier, means))
        last = means[max(means)]
        rows.append(
            {
                "scenario": cell.scenario,
                "label": cell.label,
                "classifier": classifier,
                "recency ratio at the end": last.value,
                "recency ratio at the end ±": last.half,
            }
        )
    if not lines:
        return Section(TITLE, "No completed run has a second task, so there is no recency bias to show.")
    figure = drawn(results, lines, "task %{x}: %{y:.2f}")
    figure.add_hline(y=1, line={"dash": "dot", "width": 1.2, "color": "#5b6675"})
    figure.update_xaxes(title_text="after task")
    figure.update_yaxes(title_text="recency ratio", rangemode="tozero")
    text = (
        f"{same_sentence(split)} Above 1 the newest task is answered too often, below 1 too "
        "seldom; its upper "
        "limit is the number of seen rows over those of the newest task. Dotted lines are classifiers "
        "other than a "
        "method's own."
    )
    names = ("recency_bias", "recency_ratio")
    formulas = [*(f"{name.replace('_', ' ')}: {FORMULAS[name]}" for name in names), INTERVAL]
    n = orders_sentence(compared)
    frame = pd.DataFrame(rows)
    question = "Do classifiers answer the newest task too often?"
    words = ("is lowest", "highest")
    answer = least_and_most(frame, "recency ratio at the end", *words, methods(results), digits=2)
    answer = f"Recency ratio after the last task, 1 being unbiased: {answer}" if answer else ""
    return Section(TITLE, text, formulas, n, frame, figure, split=split, question=question, answer=answer)


def _ratio(confusion: Counts, sizes: Sequence[int]) -> Counted:
    """The recency ratio with the error of its rows."""
    rows, new = float(confusion.sum()), float(task_counts(confusion, sizes)[-1].sum())
    error = share(metrics.recency_bias(confusion, sizes), rows) * rows / new if new else 0.0
    return Counted(recency_ratio(confusion, sizes), error)
