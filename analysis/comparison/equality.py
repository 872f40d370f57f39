"""Comparison of two run folders, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.lake.amounts import plural
from analysis.lake.open import open_results
from analysis.lake.results import Results
from cl_core.errors import unknown
from cl_core.records import SORT, TABLES, columns


@dataclass(frozen=True)
class Comparison:
    """The differences of two folders; truthy when there are none, readable when printed."""

    differences: tuple[str, ...]
    runs: int
    rows: int

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if self:
            return f"equal: {plural(self.runs, 'run')}, {plural(self.rows, 'row')}"
        return "\n".join(("not equal:", *(f"  {line}" for line in self.differences)))


def equal(
    a: str | Path | Results, b: str | Path | Results, runs: Sequence[str] | None = None, first: int = 5
) -> Comparison:
    """Compare every column that equal runs must share, exactly: floats bit for bit (nan equals nan), in any
    order.

    `runs` restricts it to some runs, each of which must be in one of the folders; at most `first`
    differences are listed per table. A column `hp.*` or `recipe.*` that one side lacks counts as empty there.
    """
    left, right = open_results(a), open_results(b)
    lines: list[str] = []
    rows = 0
    seen: set[str] = set()
    for table in TABLES:
        frames = [side.read(table, runs) for side in (left, right)]
        found = _differences(table, frames[0], frames[1])
        lines += [f"{table}: {line}" for line in found[:first]]
        if len(found) > first:
            lines.append(f"{table}: and {len(found) - first} more differences")
        rows += len(frames[0])
        seen |= {str(t) for frame in frames for t in frame["run"].unique()}
    for run in runs or ():
        if run not in seen:
            raise unknown("run", run, seen or set(left.runs["run"]) | set(right.runs["run"]))
    return Comparison(tuple(lines), len(seen), rows)


def _differences(table: str, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """List the differences of two frames of one table, a line each, in the order of the key."""
    key = list(SORT[table])
    lines = []
    for side, frame in (("first", a), ("second", b)):
        twice = frame[frame.duplicated(key)]
        lines += [f"{_name(key, row)} stands more than once in the {side}" for row in _head(twice, key)]
    if lines:
        return lines
    if a.empty and b.empty:
        return []
    both = a[key].merge(b[key], on=key, how="outer", indicator=True)
    for side, mark in (("first", "left_only"), ("second", "right_only")):
        only = both[both["_merge"] == mark]
        gone = sorted({str(t) for t in only["run"]})
        whole = [t for t in gone if not ((both["run"] == t) & (both["_merge"] != mark)).any()]
        lines += [f"run {run} only in the {side}" for run in whole]
        rest = only[~only["run"].isin(whole)]
        lines += [f"{_name(key, row)} only in the {side}" for row in _head(rest, key)]
    common = both[both["_merge"] == "both"][key]
    x, y = common.merge(a, on=key, how="left"), common.merge(b, on=key, how="left")
    fixed = {c.name: c for c in columns(table)}
    names = [*fixed, *(n for n in dict.fromkeys([*a.columns, *b.columns]) if n not in fixed)]
    for name in names:
        if name in key or (name in fixed and fixed[name].volatile):
            continue
        for i in np.flatnonzero(~_same(_column(x, name), _column(y, name))):
            row = common.iloc[i]
            values = (_show(_column(x, name)[i]), _show(_column(y, name)[i]))
            lines.append(f"{_name(key, row)} {name}: {values[0]} and {values[1]}")
    return lines


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Elementwise: equal value, floats bit for bit, missing equal to missing."""
    if a.dtype == np.float64 and b.dtype == np.float64:
        nan = np.isnan(a) & np.isnan(b)
        return nan | (a.view(np.int64) == b.view(np.int64))
    missing_a, missing_b = np.asarray(pd.isna(a)), np.asarray(pd.isna(b))
    known = ~missing_a & ~missing_b
    known[known] = np.fromiter((x == y for x, y in zip(a[known], b[known], strict=True)), dtype=bool)
    return (missing_a & missing_b) | known


def _column(frame: pd.DataFrame, name: str) -> NDArray[Any]:
    """A column as float64 where it is one, else as objects; all missing where the frame lacks it."""
    if name not in frame:
        return np.full(len(frame), None, dtype=object)
    series = frame[name]
    return series.to_numpy() if series.dtype == np.float64 else np.array([*series], dtype=object)


def _head(frame: pd.DataFrame, key: list[str]) -> list[Mapping[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame[key].to_dict("records")]


def _name(key: list[str], row: Mapping[str, Any] | pd.Series) -> str:
    """A row by its key: 'lwf@B0-5tasks/3 task 2'."""
    rest = [f"{k} {row[k]}" for k in key if k != "run"]
    return " ".join([str(row["run"]), *rest])


def _show(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "nothing"
    if isinstance(value, float):
        return repr(float(value))  # every digit: two values that print alike may differ in a bit
    return repr(value) if isinstance(value, str) else str(value)
