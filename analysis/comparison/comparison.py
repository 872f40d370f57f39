"""Two run folders, paired: the difference of a metric between the selected trials of each cell.

    from analysis import compare
    print(compare("runs/a", "runs/b"))

Runs are paired on cell, class order and seed. Seeds are averaged within an order, and the class order is the
unit of every interval.

Every sentence is about the two selected trials. Another search of the same method would have selected another
trial, so a difference is none of methods. Where the values shown selected the trials, the better one had
luck: interval and p-value then allow for the best of as many trials as were searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.lake.amounts import plural
from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.selection.mixture import mixtures, rows_of
from analysis.selection.selection import Cell, cells
from analysis.statistics.counting_error import Counted
from analysis.statistics.intervals import FEWEST, Mean, holm, too_few
from analysis.statistics.sample import Sample, recorded
from cl_core.errors import BadRequest, unknown
from cl_core.metrics import OBJECTIVES
from cl_core.records import CONFIRM

STUDY_PARTS = ("data", "recipe", "protocol", "search", "methods")
UNFAIR = ("data", "recipe", "protocol")  # where these differ, a difference is not of what was searched
PLACES = ("data.root", "data.download")


@dataclass(frozen=True)
class Difference:
    """One cell: the metric in both folders over the class orders that both have, and B - A, paired."""

    cell: str
    split: str  # test where both have final runs, else the split of the selection
    a: Mean
    b: Mean
    difference: Mean
    p: float | None  # of no difference, two-sided; None below three class orders
    adjusted: float | None = None  # by Holm, over the cells that have a p
    left_out: int = 0  # runs that the other one has no partner for
    among: int = 1  # trials that the shown values selected from: the larger number of both; 1 for fresh runs

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "n": self.difference.n}


@dataclass(frozen=True)
class Paired:
    """The paired cells of two studies, and the cells that only one of them has."""

    a: Path
    b: Path
    metric: str
    direction: str  # max or min: where better lies
    cells: tuple[Difference, ...]
    only_a: tuple[str, ...]  # cells with a selected trial in A alone
    only_b: tuple[str, ...]
    differing: tuple[str, ...]  # as key (A's value / B's)
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **{name: getattr(self, name) for name in ("metric", "direction")},
            "a": str(self.a),
            "b": str(self.b),
            "cells": [cell.to_dict() for cell in self.cells],
            **{name: list(getattr(self, name)) for name in ("only_a", "only_b", "differing", "warnings")},
        }

    def rows(self) -> list[list[str]]:
        """Return the rows of a table: name, split, A, B, B - A, p, p after Holm."""
        return [
            [c.cell, c.split, str(c.a), str(c.b), _signed(c.difference), _p(c.p), _p(c.adjusted)]
            for c in self.cells
        ]

    def lines(self) -> list[str]:
        """List the remarks that belong beside the table, one sentence a line."""
        better = "above 0: B is better" if self.direction == "max" else "below 0: B is better"
        out = [
            f"{self.metric.replace('_', ' ')}, B - A ({better}); ± is the half width of the 95 % interval "
            "over class orders, p two-sided: the larger of Student's t and the error of the counts",
            "compared are the two selected trials, not the methods: another search of either side would have "
            "selected another trial",
        ]
        intervals = [cell for cell in self.cells if cell.difference.half is not None]
        if (most := max((cell.among for cell in intervals), default=1)) > 1:
            out.append(
                f"± and p allow for the luck of the best of up to {most} trials, selected by these values; "
                "final runs (cl-search evaluate) need no such allowance"
            )
        for name, only in (("A", self.only_a), ("B", self.only_b)):
            if only:
                out.append(f"only in {name}: {', '.join(only)}")
        if any(cell.split == "val" for cell in self.cells):
            out.append(
                "val: trials were selected on these rows, so both values are optimistic; after cl-search "
                "evaluate of both folders, test rows are compared"
            )
        if self.differing:
            out.append(f"the studies differ in {'; '.join(self.differing)}")
        return out

    def __str__(self) -> str:
        return "\n".join([*("  ".join(row) for row in self.rows()), *self.lines(), *self.warnings])


def compare(a: str | Path | Results, b: str | Path | Results, metric: str | None = None) -> Paired:
    """Return the paired differences of B and A in `metric` (default: A's first objective).

    Each cell is compared by its final runs where both folders have them on the test split, or by those that
    confirm it where both have them. Else it is compared by the runs of its selected trial in the search.
    Raises BadRequest for an unknown metric, other images, a cell with tasks of other sizes, and folders
    without a cell in common.
    """
    left, right = open_results(a), open_results(b)
    if metric is not None and metric not in OBJECTIVES:
        raise unknown("metric", metric, OBJECTIVES)
    name = metric or left.study.objective[0]
    _same_images(left, right)
    sides = [{cell.name: cell for cell in cells(side) if len(cell.best)} for side in (left, right)]
    common = [cell for cell in sides[0] if cell in sides[1]]
    if not common:
        raise BadRequest(
            f"no cell has a selected trial in both: {_listed(sides[0])} in {left.folder}, "
            f"{_listed(sides[1])} in {right.folder}; compare runs of the same cells"
        )
    for cell in common:
        _same_tasks(sides[0][cell], sides[1][cell])
    found = [_difference((left, right), sides[0][cell], sides[1][cell], name) for cell in common]
    return Paired(
        a=left.folder,
        b=right.folder,
        metric=name,
        direction=OBJECTIVES[name][0],
        cells=tuple(_adjusted(found)),
        only_a=tuple(cell for cell in sides[0] if cell not in sides[1]),
        only_b=tuple(cell for cell in sides[1] if cell not in sides[0]),
        differing=tuple(text for key, text in _differing(left, right) if not _unfair(key)),
        warnings=(
            *_warnings(left, right, name, found),
            *(text for cell in common if (text := _unequal(sides[0][cell], sides[1][cell]))),
        ),
    )


def _difference(results: Sequence[Results], a: Cell, b: Cell, metric: str) -> Difference:
    kinds = [set(zip(cell.best["purpose"], cell.best["split"], strict=True)) for cell in (a, b)]
    alike = kinds[0] == kinds[1] and kinds[0] in ({("final", "test")}, {(CONFIRM, "val")})
    runs = [cell.best if alike else cell.selected for cell in (a, b)]
    rows = [_values(*side, metric) for side in zip(results, runs, strict=True)]
    both = [key for key in rows[0] if key in rows[1]]
    before, after = (Sample.of((key[0], side[key]) for key in both) for side in rows)
    gap = after - before
    among = max(_among(cell, side) for cell, side in zip((a, b), runs, strict=True))
    difference, p = gap.best_of(among)
    return Difference(
        cell=a.name,
        split=" / ".join(dict.fromkeys(str(split) for side in runs for split in side["split"])),
        a=before.mean,
        b=after.mean,
        difference=difference,
        p=p,
        left_out=len(rows[0]) + len(rows[1]) - 2 * len(both),
        among=among,
    )


def _among(cell: Cell, runs: pd.DataFrame) -> int:
    """Count the trials that values like those of `runs` selected from: final runs select nothing, so 1."""
    purposes = set(runs["purpose"])
    if purposes == {CONFIRM}:
        done = cell.confirming[cell.confirming["status"] == "completed"]
        return int(done["trial_digest"].nunique())
    return 1 if purposes == {"final"} else int(cell.runs["trial"].nunique())


def _values(results: Results, runs: pd.DataFrame, metric: str) -> dict[tuple[str, int], Counted]:
    """Return the metric by class order and seed, where it is a number."""
    pairs = zip(runs["seed"], recorded(results, runs, metric), strict=True)
    return {(order, int(seed)): one for seed, (order, one) in pairs if one.value is not None}


def _adjusted(found: list[Difference]) -> list[Difference]:
    tested = [cell.p for cell in found if cell.p is not None]
    adjusted = iter(holm(tested))
    return [
        cell if cell.p is None else Difference(**{**vars(cell), "adjusted": next(adjusted)}) for cell in found
    ]


# What makes a comparison wrong


def _same_images(a: Results, b: Results) -> None:
    known = [side.study.resolved.fingerprint for side in (a, b)]
    if all(known) and known[0] != known[1]:
        raise BadRequest(
            f"the runs have other images ({known[0][:12]} in {a.folder}, {known[1][:12]} in "
            f"{b.folder}): compare runs on the same data"
        )


def _same_tasks(a: Cell, b: Cell) -> None:
    sizes = [
        {f"{base}, then {later}" for base, later in zip(c.best["base"], c.best["increments"], strict=True)}
        for c in (a, b)
    ]
    if sizes[0] != sizes[1]:
        raise BadRequest(
            f"{a.name} has tasks of {' / '.join(sorted(sizes[0]))} classes in one run and of "
            f"{' / '.join(sorted(sizes[1]))} in the other: compare runs with the same tasks"
        )


def _unequal(a: Cell, b: Cell) -> str:
    """Return a warning where the trials were selected from different numbers of trials, else ""."""
    known = [cell.runs["trial"].nunique() for cell in (a, b)]
    if known[0] == known[1]:
        return ""
    # Runs that confirm are paid for by search.trials, so equal numbers there may be unequal ones here.
    keys = "search.trials" + (" and protocol.confirm" if len(a.confirming) or len(b.confirming) else "")
    return (
        f"{a.name}: selected from {plural(known[0], 'trial')} in A and from {known[1]} in B, so this is no "
        f"comparison of methods: set {keys} to the same"
    )


def _warnings(a: Results, b: Results, metric: str, found: list[Difference]) -> list[str]:
    out = []
    unfair = [text for key, text in _differing(a, b) if _unfair(key)]
    if unfair:
        out.append(
            f"the studies differ in {'; '.join(unfair)}: a difference between the runs may come from there"
        )
    by, other = a.study.objective, b.study.objective
    if by != other:
        out.append(f"trials were selected by {by[0]} in A and by {other[0]} in B, and compared by {metric}")
    out += [f"{name}: {label}" for name, side in (("A", a), ("B", b)) if (label := side.study.protocol.label)]
    names = {cell.cell for cell in found}
    both = [row for side in (a, b) for row in rows_of(side.runs) if row["cell"] in names]
    out += [f"A and B together, {line}" for line in mixtures(both)]
    for cell in found:
        if not cell.difference.n:
            out.append(
                f"{cell.cell}: no class order and seed has {metric} in both runs, so there is no difference"
            )
        elif cell.left_out:
            out.append(f"{cell.cell}: left out, without a partner: {plural(cell.left_out, 'run')}")
    few = [cell.difference.n for cell in found if 0 < cell.difference.n < FEWEST]
    if few:
        out.append(f"{too_few(max(few))} for a p-value: set protocol.orders or final.orders to 5")
    return out


def _differing(a: Results, b: Results) -> list[tuple[str, str]]:
    """Return (key, "key (A's value / B's)") where the studies differ, for the labels that both have."""
    plain = [_flat({part: side.study.plain.get(part) for part in STUDY_PARTS}) for side in (a, b)]
    shared = [set(_mapping(side.study.plain.get("methods"))) for side in (a, b)]
    out = []
    for key in (*plain[0], *(key for key in plain[1] if key not in plain[0])):
        label = key.split(".")[1] if key.startswith("methods.") else None
        if key in PLACES or (label is not None and not all(label in names for names in shared)):
            continue
        before, after = (side.get(key, "not set") for side in plain)
        if before != after:
            out.append((key, f"{key} ({_cut(before)} / {_cut(after)})"))
    return out


def _unfair(key: str) -> bool:
    return key.split(".")[0] in UNFAIR


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            out.update(_flat(inner, f"{prefix}{key}."))
        elif inner not in (None, {}):
            out[f"{prefix}{key}"] = inner
    return out


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(found: Mapping[str, Cell]) -> str:
    return ", ".join(found) or "none"


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _signed(value: Mean) -> str:
    return str(value) if value.value is None or value.value < 0 else f"+{value}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< .001" if value < 0.001 else f"{value:.3f}"
