"""The Pareto front of a cell, and the neighbours on it that cannot be told apart.

A value is a share of few validation rows, so a front has points that another draw of rows would swap.
Neighbours are compared by the paired differences of their runs over class orders; with one class order, by
the error of the counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.lake.results import Results
from analysis.selection.selection import Cell, over_runs
from analysis.selection.trials import whole
from analysis.statistics.intervals import ALPHA, mean
from analysis.statistics.sample import Sample, recorded
from cl_core.metrics import METRICS


@dataclass(frozen=True)
class Point:
    """A trial on the front. `half`, `confirmed` and `confirmed_half` are those of the counted objectives."""

    trial: int
    values: Mapping[str, float]
    half: Mapping[str, float]  # half widths of the 95 % intervals
    confirmed: Mapping[str, float]  # means over the class orders of confirming runs; empty without
    confirmed_half: Mapping[str, float]
    like: tuple[int, ...]  # neighbours on the front that cannot be told from it


@dataclass(frozen=True)
class Front:
    """The front of a cell, by its first objective, and all completed trials: trial, objectives, front."""

    points: tuple[Point, ...]
    trials: pd.DataFrame

    @property
    def compared(self) -> bool:
        """Tell whether there are neighbours to compare."""
        return len(self.points) > 1


def front(results: Results, cell: Cell, names: Mapping[str, str]) -> Front:
    """Return the front of a cell over `names`: objective -> max or min."""
    done = whole(cell.runs[cell.runs["status"] == "completed"])
    table = over_runs(results, done, names).dropna(subset=list(names))
    if table.empty:
        return Front((), table)
    table["front"] = on_front(table[list(names)].to_numpy(dtype=np.float64), list(names.values()))
    best = table[table["front"]].sort_values([next(iter(names)), "trial"])
    counted = [name for name in names if name in METRICS]
    fresh = _confirming(results, cell)
    slim = ["trial", "trial_digest", "run", "split", "class_order", *counted]
    done, fresh = done[slim], fresh[slim]
    searched = [_samples(results, done[done["trial"] == trial], names, counted) for trial in best["trial"]]
    digest = done.drop_duplicates("trial").set_index("trial")["trial_digest"]
    again = [
        _samples(results, fresh[fresh["trial_digest"] == digest[trial]], names, counted)
        for trial in best["trial"]
    ]
    numbers = [int(trial) for trial in best["trial"]]
    alike = [
        _alike(again[i], again[i + 1]) if again[i] and again[i + 1] else _alike(searched[i], searched[i + 1])
        for i in range(len(numbers) - 1)
    ]
    points, padded = [], [False, *alike, False]
    for i, (_, row) in enumerate(best.iterrows()):
        like = [numbers[j] for j, same in ((i - 1, padded[i]), (i + 1, padded[i + 1])) if same]
        points.append(
            Point(
                numbers[i],
                {name: float(row[name]) for name in names},
                {name: half_width(sample) for name, sample in searched[i].items()},
                {name: float(np.mean(list(sample.values.values()))) for name, sample in again[i].items()},
                {name: half_width(sample) for name, sample in again[i].items()},
                tuple(like),
            )
        )
    return Front(tuple(points), table)


def on_front(values: NDArray[np.float64], directions: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the rows of `values` [n, objectives] that no other row beats."""
    signed = values * np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    no_worse = (signed[:, None, :] <= signed[None, :, :]).all(axis=2)
    better = (signed[:, None, :] < signed[None, :, :]).any(axis=2)
    beaten: NDArray[np.bool_] = (no_worse & better).any(axis=0)
    return ~beaten


def half_width(sample: Sample, alpha: float = ALPHA) -> float:
    """Return the half width of the interval of a mean over class orders; with one order, by counts alone."""
    if len(sample) > 1:
        return float(mean(sample.values.values(), sample.error, 1 - alpha).half or 0.0)
    return -float(special.ndtri(alpha / 2) * sample.error)


def _alike(one: Mapping[str, Sample], other: Mapping[str, Sample]) -> bool:
    """Tell whether no counted objective differs, at 5 % over all of them (Bonferroni)."""
    for name in one:
        difference = one[name] - other[name]
        centre = abs(float(np.mean(list(difference.values.values())))) if len(difference) else 0.0
        if centre > half_width(difference, ALPHA / len(one)):
            return False
    return bool(one)


def _samples(
    results: Results, runs: pd.DataFrame, names: Mapping[str, str], counted: Sequence[str]
) -> dict[str, Sample]:
    """Return the counted objectives of a trial's runs by class order; the worst run alone where it counts."""
    out = {}
    for name in counted if len(runs) else ():
        pairs = recorded(results, runs, name)
        over = results.study.protocol.over_runs(names[name])
        if over != "mean":
            known = [one for _, one in pairs if one.value is not None]
            pick = min if over == "min" else max
            pairs = [("worst", pick(known, key=lambda one: float(one.value or 0.0)))] if known else []
        out[name] = Sample.of(pairs)
    return out


def _confirming(results: Results, cell: Cell) -> pd.DataFrame:
    """Return the completed runs that confirm trials of a cell on fresh class orders."""
    runs = results.runs
    return runs[
        (runs["cell"] == cell.name) & (runs["purpose"] == "confirm") & (runs["status"] == "completed")
    ]
