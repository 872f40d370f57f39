"""The luck in the values of a trial that these values selected: the best of many is also the luckiest.

A trial's value on a class order is taken as an effect of the trial, one of the order, and a rest. The rest is
what another training on the same class orders would not repeat. Its variance in a mean over n orders is s^2.
Trials differ in their means by V, of which s^2 is the rest. So the selected trial is taken back towards the
mean of all trials by the share s^2 / V (empirical Bayes; Efron & Morris, JASA 70, 1975). Other metrics are
taken back by as much as their rests vary with those of the objective.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.selection.selection import Cell
from analysis.statistics.redraws import Array

FORMULA = (
    "luck = min(1, s² / V) · (selected − mean of the trials): V the variance of the trials' means over n "
    "class orders, s² = Σ e² / ((T − 1)(n − 1) n), e = value − mean of the trial − mean of the order + mean "
    "of all T trials; of another metric times Σ e_{metric} · e / Σ e²"
)


def luck_of_selection(results: Results, cell: Cell, metrics: Sequence[str]) -> dict[str, float]:
    """Return by how much each metric of the selected trial is expected to exceed its value on other orders.

    Empty unless the cell is shown by the runs of a search that ranks two trials by their mean over two class
    orders.
    """
    protocol = results.study.protocol
    ranked = list(cell.ranking["trial"])
    if protocol.worst or len(ranked) < 2 or cell.best is not cell.selected:
        return {}
    if cell.selected_trial not in ranked:  # the default, which the search has not tried
        return {}
    done = cell.runs[(cell.runs["status"] == "completed") & cell.runs["trial"].isin(ranked)]
    value = _table(done, "objective", ranked)
    if value is None or value.shape[1] < 2:
        return {}
    rest = _rest(value)
    squares, (trials, orders) = float((rest**2).sum()), value.shape
    means = value.mean(axis=1)
    spread = float(means.var(ddof=1))
    if not squares or not spread:
        return {}
    share = min(1.0, squares / ((trials - 1) * (orders - 1) * orders) / spread)
    luck = share * float(means[ranked.index(cell.selected_trial)] - means.mean())
    out = {}
    for name in metrics:
        table = _table(done, name, ranked) if name in done else None
        if table is not None:
            out[name] = luck * float((_rest(table) * rest).sum()) / squares
    return out


def _table(done: pd.DataFrame, column: str, ranked: list[int]) -> Array | None:
    """Return [trials, orders], a column of each trial on each class order; None where one is missing."""
    wide = done.pivot_table(index="trial", columns="class_order", values=column, aggfunc="mean")
    found: Array = wide.reindex(ranked).to_numpy(dtype=np.float64)
    return None if np.isnan(found).any() else found


def _rest(table: Array) -> Array:
    """Return what the effects of trial and class order leave of [trials, orders]."""
    rest: Array = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    return rest
