"""The conditions of `export --at` and `advise`: the best trial of a cell that meets them.

A condition is an objective, a cost or `stored_images`, `<=` or `>=`, and a number with a unit:
`kept_bytes<=2MB`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import pandas as pd

from analysis import Results
from analysis.selection.selection import Cell, best_first, over_runs
from analysis.selection.trials import whole
from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES

STORED_IMAGES = "stored_images"  # exemplars kept after the last task
DIRECTIONS = {**{name: known[0] for name, known in OBJECTIVES.items()}, STORED_IMAGES: "min"}

UNITS: dict[str, dict[str, float]] = {
    "kept_bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "parameters": {"": 1, "k": 1e3, "M": 1e6},
    "flops": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
    "seconds": {"s": 1, "min": 60, "h": 3600},
}
"""Units of each cost, the first without a name; metrics are fractions and have none."""

_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+?)\s*([A-Za-z]*)\s*")
_EXAMPLE = "kept_bytes<=2MB or last_accuracy>=.6"


@dataclass(frozen=True)
class Condition:
    """A bound on one objective or cost; `limit` is in bytes, seconds or a fraction."""

    name: str
    most: bool  # at most the limit, or at least
    limit: float
    unit: str = ""

    def __str__(self) -> str:
        """Return the condition as it is read, with every digit of its limit."""
        return f"{self.name} {'<=' if self.most else '>='} {self.said(self.limit, digits=15)}"

    def said(self, value: float, digits: int = 6) -> str:
        """Return a value in the unit of this condition."""
        return f"{value / self._factor:.{digits}g}" + (f" {self.unit}" if self.unit else "")

    def miss(self, value: float) -> float:
        """Return by how much a value misses the limit, relative to it; 0 where it is met, inf for nan."""
        if pd.isna(value):
            return float("inf")
        beyond = value - self.limit if self.most else self.limit - value
        return max(0.0, beyond) / (abs(self.limit) or 1.0)

    @property
    def _factor(self) -> float:
        return UNITS[self.name][self.unit] if self.unit else 1.0


def conditions(texts: Sequence[str], option: str = "--at") -> list[Condition]:
    """Read the conditions of an option, several in a text apart by commas. Raises BadRequest."""
    return [_condition(part, option) for text in texts for part in text.split(",")]


def _condition(text: str, option: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise BadRequest(
            f"{option} must be a name, <= or >=, and a number, not {text.strip()!r}: try {_EXAMPLE}"
        )
    name, relation, number, unit = found.groups()
    if name not in DIRECTIONS:
        raise unknown(f"objective or cost in {option}", name, DIRECTIONS)
    units = UNITS.get(name, {})
    if unit and unit not in units:
        known = f"takes {', '.join(filter(None, units))}" if units else "is a fraction and takes no unit"
        raise BadRequest(f"{option}: {name} {known}, not {unit!r}: write it as in {_EXAMPLE}")
    try:
        float(number)
        limit = float(Decimal(number) * Decimal(units.get(unit, 1)))  # 1.001 kB is 1001 B, not less
    except ValueError:
        raise BadRequest(
            f"{option}: {number!r} in {text.strip()!r} must be a number: try {_EXAMPLE}"
        ) from None
    return Condition(name, relation == "<=", limit, unit or next(iter(units), ""))


@dataclass(frozen=True)
class Fit:
    """A cell whose selected runs are those of the trial to export; `why` it is that one, in words."""

    cell: Cell
    why: str = ""


@dataclass(frozen=True)
class Lack:
    """The sentence on a cell without a trial that fits; `distance`: of its nearest one, over the limits."""

    text: str
    distance: float


def best_under(results: Results, cell: Cell, bounds: Sequence[Condition]) -> Fit | Lack:
    """Return the best completed trial that meets all of `bounds`, by the study's first objective.

    The selected trial of a confirmed cell is taken if it fits. Otherwise a trial's values are those of its
    confirming runs where it has some, else those of the search. They do not compare, since the search's are
    picked from many. So if a confirmed trial other than the default fits, the best confirmed one is taken,
    else the best by the search.
    """
    table = trial_values(results, cell, [bound.name for bound in bounds])
    if table.empty:
        return Lack(f"no run of {cell.name} has completed", float("inf"))
    table["miss"] = sum((table[b.name].map(b.miss) for b in bounds), pd.Series(0.0, index=table.index))
    fitting = table[table["miss"] == 0]
    if fitting.empty:
        nearest = table.sort_values("miss").iloc[0]
        values = " and ".join(f"{b.name} {b.said(nearest[b.name])}" for b in bounds)
        asked = " and ".join(map(str, bounds))
        text = (
            f"no trial of {cell.name} has {asked}: the nearest, trial {int(nearest['trial'])}, has {values}"
        )
        return Lack(text, float(nearest["miss"]))
    sure = fitting[fitting["confirmed"]]
    others = {one.digest for one in cell.confirmation.candidates} if cell.confirmation else set()
    confirmed = bool(sure["digest"].isin(others).any())
    if cell.confirmation is not None and (chosen := sure["digest"].isin(cell.selected_digest)).any():
        sure = sure[chosen]
        confirmed = True
    candidates = sure if confirmed else fitting.assign(objective=fitting["searched"])
    best = best_first(candidates, results.study.objective[1]).iloc[0]
    runs = cell.runs
    mine = runs[(runs["trial"] == best["trial"]) & (runs["status"] == "completed")]
    kind = "confirming runs" if confirmed else "the search, not confirmed"
    under = [" and ".join(map(str, bounds))] * bool(bounds)
    return Fit(replace(cell, selected=mine), ", ".join([*under, f"by {kind}"]))


def trial_values(results: Results, cell: Cell, names: Sequence[str]) -> pd.DataFrame:
    """Return every completed trial: digest, confirmed, `names`, its objective, and that of the search."""
    name, direction = results.study.objective
    ways = {other: DIRECTIONS[other] for other in names} | {name: direction}
    done = cell.runs[(cell.runs["status"] == "completed") & cell.runs["objective"].notna()]
    if STORED_IMAGES in names:
        done = _with_images(results, done)
    table = over_runs(results, whole(done), ways).astype(dict.fromkeys(ways, float)).set_index("trial")
    table["searched"] = table[name]
    table["digest"] = done.drop_duplicates("trial").set_index("trial")["trial_digest"]
    number = done.drop_duplicates("trial_digest").set_index("trial_digest")["trial"]
    runs = results.runs[(results.runs["cell"] == cell.name) & (results.runs["status"] == "completed")]
    again = runs[runs["purpose"] == "confirm"]
    if STORED_IMAGES in names:
        again = _with_images(results, again)
    again = again.assign(trial=again["trial_digest"].map(number)).dropna(subset=["trial"])
    fresh = over_runs(results, whole(again), ways).astype(dict.fromkeys(ways, float)).set_index("trial")
    table["confirmed"] = table.index.isin(fresh.index)
    table.update(fresh)
    return table.assign(objective=table[name]).reset_index()


def _with_images(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with the number of exemplars that they keep after their last task."""
    tasks = results.tasks[results.tasks["run"].isin(runs["run"])]
    last = tasks.sort_values("task").drop_duplicates("run", keep="last").set_index("run")["exemplars"]
    return runs.assign(**{STORED_IMAGES: runs["run"].map(last).astype(float)})
