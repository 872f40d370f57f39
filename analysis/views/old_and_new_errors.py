"""Errors between old and new tasks, in both directions, after every task."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.answers import decimal, methods
from analysis.report.lines import Line, drawn
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import by_classifier, cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted, share
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Pairs, Sample
from cl_core.metrics import FORMULAS, Counts, new_to_old, old_to_new, task_counts

TITLE = "Errors between old and new tasks"
WAYS = {"old → new": old_to_new, "new → old": new_to_old}


@VIEWS.register("old_and_new_errors")
def old_and_new_errors(results: Results) -> Section:
    """Old rows answered with the newest task, and new rows answered with an older one, after each task."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    lines, rows = [], []
    for cell, rank, classifier, runs in by_classifier(results, compared, split):
        points: dict[str, dict[int, Pairs]] = {way: {} for way in WAYS}
        for run, order in runs:
            sizes = results.sizes(run)
            for task, confusion in enumerate(results.confusions(run, split, classifier)[1:], start=1):
                for way in WAYS:
                    found = (order, _counted(way, confusion, sizes))
                    points[way].setdefault(task, []).append(found)
        row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label, "classifier": classifier}
        for way, known in points.items():
            means = {task: Sample.of(known[task]).mean for task in sorted(known)}
            if means:
                lines.append(Line(f"{cell.scenario}: {way}", cell.label, rank, classifier, means))
                row[way], row[f"{way} ±"] = means[max(means)].value, means[max(means)].half
        if "new → old" in row:
            last = [Sample.of(points[way][max(points[way])]) for way in WAYS]
            gap = (last[0] - last[1]).mean
            rows.append(row | {"asymmetry": gap.value, "asymmetry ±": gap.half})
    if not rows:
        return Section(
            TITLE, "No completed run has a second task, so there are no older ones.", optional=True
        )
    panel = list(dict.fromkeys(line.scenario for line in lines))
    lines.sort(key=lambda line: panel.index(line.scenario))
    figure = drawn(results, lines, "task %{x}: %{y:.3f}")
    figure.update_xaxes(title_text="after task")
    figure.update_yaxes(title_text="share of the rows", range=[0, 1.02], showticklabels=True)
    table = pd.DataFrame(rows)
    text = (
        f"{same_sentence(split)} An asymmetry above 0 means that errors flow to the "
        "newest task. Dotted lines are classifiers other than a method's own. The table is after "
        "the last task."
    )
    names = ("old_to_new", "new_to_old", "asymmetry")
    return Section(
        TITLE,
        text,
        [*(f"{name.replace('_', ' ')}: {FORMULAS[name]}" for name in names), INTERVAL],
        orders_sentence(compared),
        table,
        figure,
        split=split,
        question="Do errors flow from old tasks to new ones, or back?",
        answer=_answer(table, methods(results)),
    )


def _counted(way: str, confusion: Counts, sizes: Sequence[int]) -> Counted:
    """Return a rate with the error of its rows."""
    tasks = task_counts(confusion, sizes)
    rows = tasks[:-1].sum() if way == "old → new" else tasks[-1].sum()
    value = WAYS[way](confusion, sizes)
    return Counted(value, 0.0 if value is None else share(value, float(rows)))


def _answer(table: pd.DataFrame, among: Collection[str]) -> str:
    """Count cells whose own classifier sends errors to the newest task, and name the largest asymmetry."""
    table = table[table["asymmetry"].notna()].drop_duplicates(["scenario", "label"])
    if table.empty:
        return ""
    own = table[table["label"].isin(among)]
    table = table if own.empty else own
    biased = int((table["asymmetry"] > 0).sum())
    most = table.iloc[int(table["asymmetry"].abs().to_numpy().argmax())]
    way = "to the newest task" if most["asymmetry"] > 0 else "back to older tasks"
    return (
        f"After the last task, errors flow to the newest task in {biased} of "
        f"{plural(len(table), 'cell')}. The largest asymmetry is {decimal(most['asymmetry'], '+')}, "
        f"{way}: {most['label']} in {most['scenario']}."
    )
