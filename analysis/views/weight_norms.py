"""The norms of the head's rows by the age of their classes."""

from __future__ import annotations

import pandas as pd

from analysis.lake.results import Results
from analysis.report.answers import least_and_most, methods
from analysis.report.lines import Line, drawn
from analysis.report.section import VIEWS, Section
from analysis.selection.selection import cells, orders_sentence
from analysis.statistics.counting_error import Counted
from analysis.statistics.sample import Sample
from cl_core.metrics import FORMULAS

TITLE = "Weight norms by class age"


@VIEWS.register("weight_norms")
def weight_norms(results: Results) -> Section:
    """The mean norm of head rows after the last task, by the age of their classes, each classifier apart."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    runs = [run for cell in compared for run in cell.best["run"]]
    rows = results.read("classes", runs) if runs else results.classes.iloc[:0]
    rows = rows[rows["weight_norm"].notna()]
    rows = rows[rows["after_task"] == rows.groupby("run")["after_task"].transform("max")]
    # A norm does not depend on the split, so one of them is enough.
    rows = rows.drop_duplicates(["run", "classifier", "class"])
    orders = {
        t: str(o)
        for cell in compared
        for t, o in zip(cell.best["run"], cell.best["class_order"], strict=True)
    }
    lines, table = [], []
    for cell in compared:
        mine = rows[rows["run"].isin(cell.best["run"])]
        known = mine.drop_duplicates("classifier").sort_values(
            ["primary", "classifier"], ascending=[False, True]
        )
        for index, (classifier, own) in enumerate(zip(known["classifier"], known["primary"], strict=True)):
            rank = 0 if own else index + 1
            part = mine[mine["classifier"] == classifier]
            part = part.assign(age=part["after_task"] - part["task"])
            per_run = part.groupby(["run", "age"], as_index=False)["weight_norm"].mean()
            means = {
                int(age): Sample.of(
                    (orders[t], Counted(v)) for t, v in zip(g["run"], g["weight_norm"], strict=True)
                ).mean
                for age, g in per_run.groupby("age")
            }
            line = Line(cell.scenario, cell.label, rank, str(classifier), means)
            lines.append(line)
            older = [v for age, v in line.values.items() if age > 0 and v is not None]
            newest = line.values.get(0)
            old = sum(older) / len(older) if older else None
            table.append(
                {
                    "scenario": cell.scenario,
                    "label": cell.label,
                    "classifier": classifier,
                    "newest task": newest,
                    "older tasks": old,
                    "new / old": newest / old if newest is not None and old else None,
                }
            )
    if not lines:
        return Section(TITLE, "No completed run has recorded weight norms, so there is nothing to show.")
    figure = drawn(results, lines, "age %{x}: %{y:.3f}")
    figure.update_xaxes(title_text="age of the classes in tasks (0 = newest)")
    figure.update_yaxes(title_text="mean norm of head rows", rangemode="tozero")
    text = (
        "After the last task, at each cell's best trial. A norm that falls with age favours new "
        "classes in a "
        "linear head; a cosine head ignores norms, so there it says nothing."
    )
    formulas = [
        FORMULAS["weight_norm"],
        "new / old: newest task's mean norm over the mean of the older tasks' means",
    ]
    frame, n = pd.DataFrame(table), orders_sentence(compared, "")
    question = "Are the head's rows of new classes longer?"
    answer = least_and_most(frame, "new / old", "is lowest", "highest", methods(results), digits=2)
    answer = f"Norm of new over old rows, 1 being equal: {answer}" if answer else ""
    return Section(TITLE, text, formulas, n, frame, figure, question=question, answer=answer)
