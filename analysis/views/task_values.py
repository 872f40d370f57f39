"""The values in force at each task, and the protocols that selected them side by side.

Under chf and adaptive, values are selected inside a run, task by task. Over several run folders, the second
table compares the results of each protocol and the cost of its search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.lake.several_runs import Runs
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import panels, place, plain
from analysis.selection.selection import Cell, cells, final_default
from analysis.statistics.intervals import INTERVAL
from analysis.statistics.sample import Sample, measured
from analysis.views.hyperparameters import spans_decades
from cl_core.metrics import METRICS

TITLE = "Values task by task"
INSIDE = ("chf", "adaptive")  # protocols that choose inside a run


@dataclass(frozen=True)
class Course:
    """The values of one run from its second task on; `names` are the columns that were selected."""

    label: str
    scenario: str
    order: str
    names: tuple[str, ...]
    tasks: pd.DataFrame
    colour: str


@VIEWS.register("task_values")
def task_values(results: Results) -> Section:
    """The values that each task was trained with, and the protocols side by side."""
    parts = results.parts if isinstance(results, Runs) else [results]
    courses = _courses(parts)
    compared = _compared(parts)
    if not courses and compared is None:
        return Section(TITLE, "No run chose values task by task.", optional=True)
    tables = [] if compared is None else [compared]
    if not courses:
        return Section(TITLE, "Values are fixed over the tasks of every run.", tables=tables, optional=True)
    orders = {course.order for course in courses}
    return Section(
        TITLE,
        "A task is trained with the values that its run chose for it, on validation rows and past data. "
        "A line is one class order. The base task has the default values.",
        [
            "kept: the attempt with the best accuracy on validation rows of all classes seen, of equal ones "
            "the earliest",
            INTERVAL,
        ],
        f"n = {len(orders)} class order{'' if len(orders) == 1 else 's'}",
        pd.DataFrame([row for course in courses for row in _rows(course)]),
        _figure(courses),
        tables=tables,
        optional=True,
        question="Which values did each task choose?",
    )


def _courses(parts: Sequence[Results]) -> list[Course]:
    """The runs that stand for the cells of every folder whose runs choose their values."""
    inside = [part for part in parts if part.study.protocol.select_on in INSIDE]
    return [
        course
        for part in inside
        for cell in cells(part)
        for course in _of_cell(part, cell, f" ({part.folder.name})" if len(inside) > 1 else "")
    ]


def _of_cell(part: Results, cell: Cell, folder: str) -> list[Course]:
    tasks = part.tasks[part.tasks["run"].isin(cell.best["run"]) & (part.tasks["task"] > 0)]
    adapted = {c.name: c.adapted for c in part.study.resolved.cells}.get(cell.name, ())
    names = adapted or tuple(c for c in tasks.columns if c.startswith(ADDED) and tasks[c].nunique() > 1)
    names = tuple(name for name in names if name in tasks and tasks[name].notna().any())
    if not names:
        return []
    order = dict(zip(cell.best["run"], cell.best["class_order"].astype(str), strict=True))
    colour = colours(part)[cell.label]
    return [
        Course(f"{cell.label}{folder}", cell.scenario, order[run], names, rows.sort_values("task"), colour)
        for run, rows in tasks.groupby("run", sort=False)
    ]


def _rows(course: Course) -> list[dict[str, Any]]:
    out = []
    for task in course.tasks.to_dict("records"):
        row: dict[str, Any] = {"scenario": course.scenario, "label": course.label}
        row |= {"class order": course.order, "task": task["task"]}
        row |= {name.removeprefix("hp."): task[name] for name in course.names}
        attempts = json.loads(task["attempts"]) if isinstance(task["attempts"], str) else []
        known = [-1.0 if one["accuracy"] is None else one["accuracy"] for one in attempts]
        if known:
            row["kept"] = f"{known.index(max(known)) + 1} of {len(known)}"
            row["accuracy kept"], row["of the defaults"] = max(known), attempts[0]["accuracy"]
        elif task["note"]:
            row["kept"] = task["note"]
        out.append(row)
    return out


def _figure(courses: Sequence[Course]) -> go.Figure:
    pairs = list(dict.fromkeys((c.scenario, c.label, name) for c in courses for name in c.names))
    several = len({scenario for scenario, _, _ in pairs}) > 1
    titles = [
        f"{label} · {name.removeprefix('hp.')}" + (f" · {scenario}" if several else "")
        for scenario, label, name in pairs
    ]
    figure = panels(titles, 3, 210)
    for course in courses:
        for name in course.names:
            where = place(pairs.index((course.scenario, course.label, name)), figure)
            values = course.tasks[name].tolist()  # of Python's types
            figure.add_trace(
                go.Scatter(
                    x=list(course.tasks["task"]),
                    y=[None if pd.isna(v) else str(v) if isinstance(v, bool | str) else v for v in values],
                    mode="lines+markers",
                    line={"color": course.colour, "width": 1.2},
                    opacity=0.7,
                    hovertemplate=f"{plain(course.order)}: task %{{x}}<br>%{{y:.4g}}<extra></extra>",
                ),
                **where,
            )
    for index, (scenario, label, name) in enumerate(pairs):
        mine = [
            c.tasks[name] for c in courses if (c.scenario, c.label) == (scenario, label) and name in c.names
        ]
        if spans_decades([value for values in mine for value in values.tolist()]):
            figure.update_yaxes(type="log", dtick=1, tickformat="~g", **place(index, figure))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text="task", dtick=1)
    return figure


def _compared(parts: Sequence[Results]) -> Table | None:
    """Every protocol's selected trial beside the published default; None where one protocol stands alone."""
    select = {part.study.protocol.select_on for part in parts}
    if len(select) < 2 and not select & set(INSIDE):
        return None
    found = [one for part in parts for cell in cells(part) if (one := _judged(part, cell)).chosen]
    if not found:
        return None
    rows = [_protocol_row(one, _fixed_beside(one, found)) for one in found]
    frame = pd.DataFrame(rows).sort_values(["scenario", "label"], kind="stable", ignore_index=True)
    empty = [name for name in frame if str(name).startswith("over fixed") and frame[name].isna().all()]
    return Table(
        "Protocols side by side",
        frame.drop(columns=empty),
        "Selected trial on test rows, minus the published default and minus the selected trial of the first "
        "folder with fixed values, paired by class order. Image-steps are those of the search and of its "
        "confirmation, a shared base task counted once. Chf and adaptive search again inside every final "
        "run.",
    )


@dataclass(frozen=True)
class ProtocolResult:
    """A cell of one folder on test rows."""

    part: Results
    cell: Cell
    chosen: Sample
    default: Sample

    @property
    def place(self) -> tuple[str, str, str]:
        """The images, the scenario and the label."""
        return self.part.study.resolved.fingerprint, self.cell.scenario, self.cell.label


def _judged(part: Results, cell: Cell) -> ProtocolResult:
    name = part.study.objective[0]
    name = name if name in METRICS else "average_incremental_accuracy"
    chosen, default = (
        Sample.of(measured(part, runs, "test")[name]) for runs in (cell.final, final_default(part, cell))
    )
    return ProtocolResult(part, cell, chosen, default)


def _fixed_beside(one: ProtocolResult, found: Sequence[ProtocolResult]) -> ProtocolResult | None:
    """Return the same cell of the first folder whose values are fixed; None where there is none."""
    fixed = (other for other in found if other.part.study.protocol.select_on not in INSIDE)
    return next((other for other in fixed if other.place == one.place), None)


def _protocol_row(one: ProtocolResult, fixed: ProtocolResult | None) -> dict[str, Any]:
    nothing, select = Sample.of([]), one.part.study.protocol.select_on
    default = one.default
    if select == "chf":  # its default run chooses values as well
        default = nothing if fixed is None else fixed.default
    over_default = (one.chosen - default).mean
    over_fixed = (one.chosen - (nothing if fixed is None or fixed is one else fixed.chosen)).mean
    runs = pd.concat([one.cell.runs["run"], one.cell.confirming["run"]])
    tasks = one.part.tasks[one.part.tasks["run"].isin(runs)]
    again = tasks["checkpoint"].notna() & tasks.duplicated(["checkpoint"])
    counted = tasks[(tasks["task"] > 0) | ~again]
    return {
        "scenario": one.cell.scenario,
        "label": one.cell.label,
        "protocol": select,
        "folder": one.part.folder.name,
        "selected": one.chosen.mean.value,
        "selected ±": one.chosen.mean.half,
        "over default": over_default.value,
        "over default ±": over_default.half,
        "over fixed": over_fixed.value,
        "over fixed ±": over_fixed.half,
        "image-steps": int(counted["images"].sum()),
        "class orders": len(one.chosen),
    }
