"""The trials of a cell's search: one row each, whatever its runs.

A trial has completed when it has as many completed runs as any other of its cell; only then does it
have a value, the mean over its runs, or the worst where the protocol says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.selection.selection import Cell, best_first, over_runs
from cl_core.records import REUSED, trained_by

ADAPTIVE = ("tpe", "gp", "nsga2")  # samplers whose draws depend on the values before


def whole(done: pd.DataFrame) -> pd.DataFrame:
    """The completed runs of trials that have as many of them as any other: a mean over fewer class
    orders is a mean over easier or harder ones."""
    runs = done.groupby("trial")["run"].transform("count")
    return done[runs == runs.max()]


def trials(results: Results, cell: Cell) -> pd.DataFrame:
    """Return a row for every trial of a cell that has ended, by number.

    Columns: trial, status (completed, stopped, failed), objective (missing unless completed), runs,
    planned_runs (of a trial that is not stopped), tasks and tasks_done (both over its runs), seconds, ended;
    then the columns of its first run. A stopper may end a trial between two runs, so a stopped trial may have
    completed runs alone. Without a stopper, or while a run trains, a trial with fewer runs is left out.
    """
    key = f"trials {cell.name}"
    if key not in results.memo:
        results.memo[key] = _trials(results, cell)
    frame: pd.DataFrame = results.memo[key]
    return frame


def _trials(results: Results, cell: Cell) -> pd.DataFrame:
    runs = cell.runs
    direction = results.study.objective[1]
    grouped = runs.groupby("trial")
    table = pd.DataFrame(
        {
            "runs": grouped["run"].count(),
            "tasks": grouped["tasks"].sum(),
            "tasks_done": grouped["tasks_done"].sum(),
            "seconds": grouped["seconds"].sum(),
            "ended": grouped["ended"].max(),
        }
    )
    status = runs["status"]
    done = status.eq("completed").groupby(runs["trial"]).sum()
    full = int(done.max()) if len(done) else 0
    table["planned_runs"] = max(full, *table["runs"], results.study.protocol.runs)
    table["status"] = "completed"
    short = table.index[done < full] if full else table.index
    between = results.study.stopper != "none"
    table.loc[short, "status"] = "stopped" if between else "unfinished"
    if between and len(short):
        table.loc[short.intersection(_under_way(results, cell)), "status"] = "unfinished"
    for state in ("stopped", "failed"):
        table.loc[status.eq(state).groupby(runs["trial"]).any(), "status"] = state
    table = table[table["status"] != "unfinished"]
    complete = runs[runs["trial"].isin(table.index[table["status"] == "completed"])]
    values = over_runs(results, complete, {"objective": direction}).set_index("trial")["objective"]
    table["objective"] = values.reindex(table.index).astype(float)
    lacking = (table["status"] == "completed") & table["objective"].isna()
    table.loc[lacking, "status"] = "failed"  # the objective is undefined there: it can never be best
    order = np.argsort(runs["run"].str.len().to_numpy(), kind="stable")
    place = np.unique(runs["trial"].to_numpy()[order], return_index=True)[1]
    first = runs.iloc[order[place]].set_index("trial")
    first = first.drop(columns=[c for c in table.columns if c in first])
    return table.join(first).reset_index()


def ranked(results: Results, cell: Cell) -> pd.DataFrame:
    """The completed trials of a cell, the best first, as `trials` gives them."""
    key = f"ranked {cell.name}"
    if key not in results.memo:
        table = trials(results, cell)
        table = table[table["status"] == "completed"]
        results.memo[key] = best_first(table, results.study.objective[1])
    frame: pd.DataFrame = results.memo[key]
    return frame


def proposed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without trials that share the training of another, which are no draws of their own."""
    return table[table["trial"] < REUSED]


def best_of_trainings(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Return a row for every training of `trials`: its best trial by the objective, by its own number.

    Trials that share a training are one draw of the search.
    """
    if (table["trial"] < REUSED).all():
        return table
    ranked = best_first(table, direction)  # without a value last
    training = ranked["trial"].map(trained_by)
    return ranked[~training.duplicated()].sort_values("trial", key=lambda t: t.map(trained_by))


def span(counts: Iterable[int]) -> str:
    """The smallest and the largest of some counts: 12, or 8–20."""
    known = sorted(set(map(int, counts)))
    return f"{known[0]}" if len(known) == 1 else f"{known[0]}–{known[-1]}"


def _under_way(results: Results, cell: Cell) -> list[int]:
    """Trials with a run that has left a task's rows and has not ended."""
    open_ = set(results.tasks["run"]) - set(results.runs["run"])
    rest = (t.removeprefix(f"{cell.name}/").split("/")[0] for t in open_ if t.startswith(f"{cell.name}/"))
    return sorted({int(number) for number in rest if number.isdigit()})
