"""The error that counting rows leaves in the values of a cell's trials."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.selection.selection import Cell, split_selected_on
from analysis.statistics.counting_error import errors_of
from analysis.statistics.redraws import Array
from cl_core.metrics import METRICS

OWN = 12  # trials of a cell with an error of their own; the others get the mean of these


def row_errors(
    results: Results, cell: Cell, table: pd.DataFrame, metric: str, tasks: int | None = None
) -> Array | None:
    """Return [n], the standard error of each ranked trial's value; None where it is not made of counts.

    `table` is `ranked`. The value is `metric` over the first `tasks` tasks or all, the mean over a trial's
    runs, or the worst where the protocol says so.
    """
    if metric not in METRICS:
        return None
    runs = cell.runs
    mine = {number: runs.loc[runs["trial"] == number, "run"] for number in table["trial"][:OWN]}
    results.measure([run for those in mine.values() for run in those])
    found = []
    worst = results.study.protocol.worst
    for those in mine.values():
        known = [(_error(results, run, metric, tasks), run) for run in map(str, those)]
        errors = [error for error, _ in known if error is not None]
        if len(errors) < len(known):
            return None
        if worst:
            value = dict(zip(runs["run"], runs["objective"], strict=True))
            least = results.study.objective[1] == "min"
            order = sorted(known, key=lambda pair: value[pair[1]], reverse=least)
            found.append(float(order[0][0] or 0.0))
        else:
            found.append(float(np.sqrt(np.sum(np.square(errors))) / len(errors)))
    return np.array([*found, *[float(np.mean(found))] * (len(table) - len(found))])


def _error(results: Results, run: str, metric: str, tasks: int | None) -> float | None:
    known = results.accuracies(run, split_selected_on(results))
    error = errors_of(metric, [known and known.first(tasks)])[0]
    return error or None  # counts always leave some; a metric that needs two tasks has none after one
