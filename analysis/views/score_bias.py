"""The preference of scores for new classes: margin of the true class and bias of the head, by class age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.lines import Line, drawn
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import cells, orders_sentence, same_sentence, split_of
from analysis.statistics.counting_error import Counted
from analysis.statistics.intervals import Mean
from analysis.statistics.sample import Pairs, Sample

TITLE = "Scores by class age"
_SHOWN = {"margin": "margin of the true class", "bias": "bias of the head"}


@VIEWS.register("score_bias")
def score_bias(results: Results) -> Section:
    """The true class's margin and the head's bias after the last task, by the age of the classes."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    rows = _rows(results, [str(run) for cell in compared for run in cell.best["run"]], split)
    lines, table = [], []
    for cell in compared:
        mine = rows[rows["run"].isin(cell.best["run"])]
        orders = dict(zip(cell.best["run"], cell.best["class_order"].astype(str), strict=True))
        known = mine.drop_duplicates("classifier").sort_values(
            ["primary", "classifier"], ascending=[False, True]
        )
        for index, (classifier, own) in enumerate(zip(known["classifier"], known["primary"], strict=True)):
            rank = 0 if own else index + 1
            part = mine[mine["classifier"] == classifier]
            row: dict[str, Any] = {"scenario": cell.scenario, "label": cell.label, "classifier": classifier}
            for column, said in _SHOWN.items():
                means = _by_age(part, column, orders)
                if len(means) > 1:
                    lines.append(Line(f"{cell.scenario}: {said}", cell.label, rank, str(classifier), means))
                row |= _ends(said, means)
            table.append(row)
    if not lines:
        return Section(TITLE, "No completed run with two tasks has recorded scores.", optional=True)
    panel = list(dict.fromkeys(line.scenario for line in lines))
    lines.sort(key=lambda line: panel.index(line.scenario))
    figure = drawn(results, lines, "age %{x}: %{y:.3f}")
    figure.update_xaxes(title_text="age of the classes in tasks (0 = newest)")
    frame = pd.DataFrame(table)
    frame = frame.drop(columns=[c for c in frame.columns if frame[c].isna().all()])
    text = (
        f"{same_sentence(split)} A margin below 0 means that another class scores higher on average. "
        "Scores of different classifiers have different units: compare the ages of one line, not the "
        "lines. Dotted "
        "lines are classifiers other than a method's own."
    )
    formulas = [
        "margin of the true class: mean score of the true class − mean of the largest other score, over the "
        "rows of a class; the mean over classes of one age",
        "age: tasks since a class was learnt, after the last task",
        "new − old: the newest task's mean − the mean of the older tasks' means",
    ]
    return Section(
        TITLE,
        text,
        formulas,
        orders_sentence(compared, ""),
        frame,
        figure,
        split=split,
        question="Do scores favour new classes?",
        answer=_answer(frame),
    )


def _rows(results: Results, runs: list[str], split: str) -> pd.DataFrame:
    """The classes after the last task of each run on `split`, with their margin and age."""
    rows = results.read("classes", runs) if runs else results.classes.iloc[:0]
    rows = rows[rows["split"] == split]
    rows = rows[rows["after_task"] == rows.groupby("run")["after_task"].transform("max")]
    rows = rows.assign(
        margin=rows["mean_true_score"].astype(float) - rows["mean_other_score"].astype(float),
        age=rows["after_task"] - rows["task"],
    )
    return rows[rows["margin"].notna()]


def _by_age(part: pd.DataFrame, column: str, orders: Mapping[str, str]) -> dict[int, Mean]:
    known = part[part[column].notna()]
    means = known.groupby(["age", "run"], as_index=False)[column].mean()
    pairs: dict[int, Pairs] = {}
    for age, run, value in means.itertuples(index=False):
        pairs.setdefault(int(age), []).append((orders[run], Counted(float(value))))
    return {age: Sample.of(pairs[age]).mean for age in sorted(pairs)}


def _ends(said: str, means: Mapping[int, Mean]) -> dict[str, float | None]:
    older = [mean.value for age, mean in means.items() if age > 0 and mean.value is not None]
    new = means[0].value if 0 in means else None
    old = sum(older) / len(older) if older else None
    gap = None if new is None or old is None else new - old
    return {f"{said}, new": new, f"{said}, old": old, f"{said}, new − old": gap}


def _answer(frame: pd.DataFrame) -> str:
    column = f"{_SHOWN['margin']}, new − old"
    if column not in frame:
        return ""
    known = frame[frame[column].notna()]
    favoured = int((known[column] > 0).sum())
    return (
        f"With {favoured} of {plural(len(known), 'classifier')} the margin of the true class is larger in "
        "the newest task than in older ones."
    )
