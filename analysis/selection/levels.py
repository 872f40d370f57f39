"""The trials of a label over all its scenarios, by low, medium and high values of what was searched.

Levels are thirds of the searched range, in logarithms where it is searched in them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.lake.results import Results
from analysis.lake.searched_space import Parameter, spaces
from analysis.selection.selection import Cell, cells
from analysis.selection.trials import proposed, whole
from analysis.statistics.counting_error import Counted
from analysis.statistics.sample import Sample, recorded

FACTORS: Mapping[str, tuple[str, ...]] = {
    "buffer": ("exemplars_per_class", "exemplars_total", "exemplars_bytes"),
    "weight": ("kd_weight", "kd_lambda", "old_weight"),
    "temperature": ("temperature",),
}
"""Each factor with the hyperparameters that are one; a label has at most one of them."""

SPLIT = "split"
THIRDS = ("low", "medium", "high")
METRIC = "last_accuracy"


@dataclass(frozen=True)
class Leveled:
    """A label's completed trials, one row each, without those that share the training of another.

    Columns: split (its scenario), value (last accuracy), variance (of its counts), kept_bytes, then for each
    factor its level, and its value under `<factor>: value`.
    """

    label: str
    factors: tuple[str, ...]  # that it searches
    trials: pd.DataFrame


def leveled(results: Results) -> list[Leveled]:
    """Return every label that searches a buffer, a weight or a temperature, in the study's order."""
    known = spaces(results) or {}
    by_label: dict[str, list[Cell]] = {}
    for cell in cells(results):
        by_label.setdefault(cell.label, []).append(cell)
    out = []
    for label, mine in by_label.items():
        space = {parameter.name: parameter for parameter in known.get(mine[0].name, ())}
        searched = {
            factor: parameter
            for factor, names in FACTORS.items()
            for name in names
            if (parameter := space.get(f"hp.{name}")) is not None and parameter.ends and not parameter.single
        }
        if searched:
            found = pd.concat([_rows(results, cell, searched) for cell in mine], ignore_index=True)
            out.append(Leveled(label, tuple(searched), found))
    return out


def _rows(results: Results, cell: Cell, searched: Mapping[str, Parameter]) -> pd.DataFrame:
    runs = proposed(cell.runs)
    done = whole(runs[(runs["status"] == "completed") & runs[METRIC].notna()])
    by_trial: dict[int, list[tuple[Hashable, Counted]]] = {}
    for trial, one in zip(done["trial"], recorded(results, done, METRIC), strict=True):
        by_trial.setdefault(trial, []).append(one)
    kept = done["kept_bytes"].astype(float).groupby(done["trial"]).mean()
    names = {parameter.column for parameter in searched.values()}
    first = done.drop_duplicates("trial").set_index("trial")[list(names)].to_dict("index")
    rows = []
    for trial in sorted(by_trial):
        sample = Sample.of(by_trial[trial])
        row = {"split": cell.scenario, "value": sum(sample.values.values()) / len(sample)}
        row |= {"variance": sample.error**2, "kept_bytes": float(kept[trial])}
        for factor, parameter in searched.items():
            value = first[trial][parameter.column]
            place = None if pd.isna(value) else parameter.position(value)
            row[factor] = None if place is None else THIRDS[min(2, int(3 * place + 1e-9))]
            row[f"{factor}: value"] = value
        rows.append(row)
    columns = ["split", "value", "variance", "kept_bytes"]
    columns += [name for factor in searched for name in (factor, f"{factor}: value")]
    return pd.DataFrame(rows, columns=columns).dropna(subset=list(searched))


def factors_of(one: Leveled) -> dict[str, Sequence[str]]:
    """Return the levels of every factor of a label's trials, its splits among them."""
    return {SPLIT: list(one.trials["split"]), **{name: list(one.trials[name]) for name in one.factors}}
