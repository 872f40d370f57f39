"""References of a cell: fine-tuning below and joint training above, trained as the cell itself.

A reference of a cell stands on the same data set and scenario, under the same protocol, and has the same
recipe: the same net and first weights, and for the first task and for the increments every field that acts
equal, or searched over the same range by both. Of joint training, which trains every task anew, the first
task's acts alone. A recipe that a method brings itself, such as iCaRL's learning rate, is another one: then
the difference would be that of two recipes too, and there is no reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.lake.results import Results
from analysis.lake.searched_space import Domain, spaces
from analysis.selection.selection import Cell, cells

RECIPE_PARTS = ("recipe.base.", "recipe.increment.")
ACTS = {
    "momentum": ("optimizer", "sgd"),
    "gamma": ("schedule", "step"),
    "milestones": ("schedule", "step"),
    "period": ("schedule", "cosine"),
}
"""Fields of a recipe that act only with a certain value of another one."""
RESTARTS = ("joint",)
"""Methods that train every task anew by the first task's recipe, so that of the increments does not act."""


@dataclass(frozen=True)
class Reference:
    """A cell, or none and why."""

    cell: Cell | None
    lack: str = ""


def reference(results: Results, cell: Cell, method: str) -> Reference:
    """The cell of `method` that `cell` is measured against, the label that is named as the method first."""
    if cell.method == method:
        return Reference(None)
    found = [c for c in cells(results) if c.scenario == cell.scenario and c.method == method and len(c.best)]
    found.sort(key=lambda c: c.label != method)
    if not found:
        return Reference(None, f"no completed {method} in {cell.scenario}")
    apart = [(other_recipe(results, cell, c), c) for c in found]
    for fields, candidate in apart:
        if not fields:
            return Reference(candidate)
    fields, nearest = min(apart, key=lambda pair: len(pair[0]))
    return Reference(None, f"{nearest.label} has another recipe: {', '.join(fields)}")


def other_recipe(results: Results, one: Cell, other: Cell) -> list[str]:
    """Differences of two cells' recipes, as "lr (0.02 / 0.05)"; empty for the same recipe."""
    a, b = _recipe(results, one), _recipe(results, other)
    said: dict[str, None] = {}
    for column in dict.fromkeys([*a, *b]):
        left, right = a.get(column), b.get(column)
        if left == right or left is None or right is None:  # what one lacks hangs on another field
            continue
        name = next((column.removeprefix(part) for part in RECIPE_PARTS if column.startswith(part)), column)
        said[f"{name} ({_text(left)} / {_text(right)})"] = None
    return list(said)


def _recipe(results: Results, cell: Cell) -> Mapping[str, Any]:
    """Column -> its value, or the domain that it is searched over; without fields that do not act."""
    key = f"recipe {cell.name}"
    if key not in results.memo:
        results.memo[key] = _read_recipe(results, cell)
    found: Mapping[str, Any] = results.memo[key]
    return found


def _read_recipe(results: Results, cell: Cell) -> Mapping[str, Any]:
    row = cell.row
    known: dict[str, Any] = {
        column: row[column]
        for column in row.index
        if (column == "net" or column.startswith(RECIPE_PARTS)) and not pd.isna(row[column])
    }
    known["init"] = results.weights.get(cell.name, "drawn")
    for name, domain in _searched(results, cell).items():
        both = [part + name.removeprefix("recipe.") for part in RECIPE_PARTS]  # a field of no part is of both
        known |= dict.fromkeys([name] if name in known else both, domain)
    if cell.method in RESTARTS:
        known = {column: value for column, value in known.items() if not column.startswith(RECIPE_PARTS[1])}
    for part in RECIPE_PARTS:
        for field, (switch, value) in ACTS.items():
            if isinstance(known.get(part + switch), str) and known[part + switch] != value:
                known.pop(part + field, None)
    return known


def _searched(results: Results, cell: Cell) -> dict[str, Domain | str]:
    """Column -> the domain it is searched over; where the study does not state them, what varies."""
    known = spaces(results)
    if known is None:
        columns = [c for c in cell.runs.columns if c.startswith(RECIPE_PARTS) and cell.runs[c].nunique() > 1]
        return dict.fromkeys(columns, "searched")
    space = known.get(cell.name, ())
    return {p.name.replace("recipe.net", "net"): p.domain for p in space if p.name.startswith("recipe.")}


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
