"""The time that training took: by label, by the purpose of the runs, and what sharing saved."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.bars import add_part, stack
from analysis.report.identity import PALETTE
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels

TITLE = "Time spent"
_PARTS = {
    "search": PALETTE["blue"],
    "stopped or failed": PALETTE["orange"],
    "confirmation": PALETTE["violet"],
    "evaluation": PALETTE["slate"],
    "unfinished": PALETTE["sand"],
}
_OF_PURPOSE = {"search": "search", "confirm": "confirmation"}
_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


@VIEWS.register("time_spent")
def time_spent(results: Results) -> Section:
    """Seconds of training by label and purpose; a task that several runs share counts once."""
    tasks = _tasks(results)
    if tasks.empty or not tasks["seconds"].sum():
        return Section(TITLE, "No task has ended yet.", optional=True)
    mine = tasks[~tasks["shared"]]
    amount, unit = next((known for known in _UNITS if mine["seconds"].sum() / 20 >= known[0]), _UNITS[-1])
    keys = ["scenario", "label"]
    table = tasks.drop_duplicates(keys)[keys].reset_index(drop=True)
    table = table.sort_values(keys, key=lambda column: column.map(_order(results, str(column.name))))
    by = mine.groupby(keys)["seconds"].sum()
    table = _joined(table, by / amount, unit)
    table = _joined(table, by / by.sum(), "share of the study")
    for said, rows in (("first tasks", mine["task"] == 0), ("increments", mine["task"] > 0)):
        table = _joined(table, mine[rows].groupby(keys)["seconds"].sum() / amount, said)
    parts = {part: mine[mine["part"] == part].groupby(keys)["seconds"].sum() / amount for part in _PARTS}
    for part, seconds in parts.items():
        if len(seconds):
            table = _joined(table, seconds, part)
    saved = tasks[tasks["shared"]].groupby(keys)["seconds"].sum() / amount
    table = _joined(table, saved, "saved by sharing").reset_index(drop=True)
    text = (
        f"In {unit} of training, added over workers. A task that several runs share counts once: in "
        "the run that trained it, or in one of them where a job of its own did. “Saved by sharing” is the "
        "training that the others did not repeat. Loading, evaluation and waiting are not included."
    )
    formulas = ["time of a label: Σ seconds over the tasks of its runs, without those saved by sharing"]
    n = f"n = {plural(len(mine), 'trained task')} in {plural(mine['run'].nunique(), 'run')}"
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        _figure(table, unit),
        question="Where did the time go?",
        answer=_answer(table, unit, float(saved.sum())),
    )


def _tasks(results: Results) -> pd.DataFrame:
    """The trained tasks of every run: scenario, label, run, task, part, shared, seconds.

    `shared` is a task that another row counts.
    """
    runs = results.runs[["run", "scenario", "purpose", "status"]]
    names = ["run", "cell", "label", "task", "shared", "checkpoint", "seconds"]
    tasks = results.tasks[names].merge(runs, on="run", how="left")
    tasks["scenario"] = tasks["scenario"].fillna(tasks["cell"].str.split("@", n=1).str[-1])
    tasks["shared"] = tasks["shared"].astype(bool)
    first = tasks[tasks["task"] == 0]
    trained = first.loc[~first["shared"], "checkpoint"]
    by_a_job = first[~first["checkpoint"].isin(trained)].drop_duplicates("checkpoint")
    tasks.loc[by_a_job.index, "shared"] = False
    part = tasks["purpose"].map(_OF_PURPOSE).fillna("evaluation")
    part = part.mask(tasks["status"].isin(["stopped", "failed"]), "stopped or failed")
    tasks["part"] = part.mask(tasks["status"].isna(), "unfinished")
    return tasks


def _order(results: Results, column: str) -> dict[str, int]:
    names = results.scenarios if column == "scenario" else results.labels
    return {name: index for index, name in enumerate(names)}


def _joined(table: pd.DataFrame, values: pd.Series, name: str) -> pd.DataFrame:
    keys = pd.MultiIndex.from_frame(table[["scenario", "label"]])
    return table.assign(**{name: values.reindex(keys).fillna(0.0).to_numpy()})


def _answer(table: pd.DataFrame, unit: str, saved: float) -> str:
    most = table.iloc[int(table[unit].to_numpy().argmax())]
    text = (
        f"{most['label']} in {most['scenario']} took the most: {most['share of the study']:.0%} of "
        f"{table[unit].sum():.1f} {unit}"
    )
    lost = float(table["stopped or failed"].sum()) if "stopped or failed" in table else 0.0
    if lost:
        text += f"; runs that stopped or failed took {lost / table[unit].sum():.0%}"
    return f"{text}; shared tasks saved {saved:.1f} {unit}." if saved else f"{text}."


def _figure(table: pd.DataFrame, unit: str) -> go.Figure:
    names = list(dict.fromkeys(table["scenario"]))
    tall = max(int((table["scenario"] == name).sum()) for name in names)
    figure = panels(names, columns=2, height=60 + 24 * tall, legend=True)
    for index, name in enumerate(names):
        here = table[table["scenario"] == name].iloc[::-1]
        for part, colour in _PARTS.items():
            if part not in here or not here[part].sum():
                continue
            add_part(figure, index, name, part, colour, here["label"], here[part], f"%{{x:.3g}} {unit}")
    stack(figure)
    figure.update_xaxes(title_text=unit)
    return figure
