"""A frame as a table of typed cells: shown as HTML by `templates/table.html`, written as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.statistics.intervals import TOO_FEW

VERDICTS = {
    "holds": "ok",
    "contradicted": "bad",
    **dict.fromkeys(("equivalent", "undecided", "not measured"), "none"),
}


MISSING = "–"
"""A missing value, as it is shown; in CSV it is empty."""

FACETS = {"scenario": ("scenario", "split"), "label": ("label",), "classifier": ("classifier",)}
"""Filters of the page, each with the columns that hold it."""


P_VALUES = ("p", "p, Holm")
"""Columns of p-values."""


@dataclass(frozen=True)
class GridCell:
    """One cell: text, its kind (num, text, text long), a badge's colour, a half width, and its extent."""

    text: str
    kind: str
    badge: str = ""
    half: str = ""
    rows: int = 1
    columns: int = 1
    place: int | None = None  # of the column that a header cell stands over, from 0
    value: float | None = None  # of a number, with all of its digits; None where there is none
    width: float | None = None  # of the half width, with all of its digits


@dataclass(frozen=True)
class GridRow:
    """One row of the body; `heading` is written across the table above it, `group` draws a line above it.

    `facets` are its scenario, label and classifier, by which the page filters; those that it has.
    """

    cells: list[GridCell]
    heading: list[str]
    group: bool
    facets: Mapping[str, str]


@dataclass(frozen=True)
class Grid:
    """A whole table. A `spread` one has two header rows and keeps its first column in sight."""

    head: list[list[GridCell]]
    rows: list[GridRow]
    columns: int
    spread: bool

    @property
    def wide(self) -> bool:
        """Tell whether the columns need the narrow style."""
        return self.columns > 12

    @property
    def leaves(self) -> list[GridCell]:
        """The header cell over each column; of two header rows, the lower one or one that spans both."""
        if not self.spread:
            return self.head[0]
        lower = iter(self.head[1])
        out: list[GridCell] = []
        for cell in self.head[0]:
            out += [cell] if cell.kind != "over" else [next(lower) for _ in range(cell.columns)]
        return out

    def csv(self) -> str:
        """The table as CSV with all digits: a half width in a column `x ±`, a heading in columns before."""
        groups = [cell.text for cell in self.head[0] for _ in range(cell.columns)] if self.spread else []
        names = [cell.text for cell in self.leaves]
        if self.spread:
            over = [cell.kind == "over" for cell in self.head[0] for _ in range(cell.columns)]
            names = [f"{groups[i]}: {name}" if over[i] else name for i, name in enumerate(names)]
        halves = [any(row.cells[i].width is not None for row in self.rows) for i in range(self.columns)]
        deep = max((len(row.heading) for row in self.rows), default=0)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        head = [name for i, x in enumerate(names) for name in ((x, f"{x} ±") if halves[i] else (x,))]
        writer.writerow([*[f"heading {i + 1}" for i in range(deep)], *head])
        heading: list[str] = []
        for row in self.rows:
            heading = row.heading or heading
            cells: list[object] = [*heading, *[""] * (deep - len(heading))]
            for i, cell in enumerate(row.cells):
                cells.append(cell.value if cell.kind == "num" else "" if cell.text == MISSING else cell.text)
                cells += [cell.width] if halves[i] else []
            writer.writerow(cells)
        return out.getvalue()


def grid(frame: pd.DataFrame, group: str = "scenario", heading: Sequence[str] = ()) -> Grid:
    """Lay out a frame: a line where column `group` changes, with the columns of `heading` across the table.

    Numbers go to the right, a column `x ±` into column `x`, and a missing value is a dash.
    """
    spread = frame.columns.nlevels > 1
    half = {c: (*c[:-1], f"{c[-1]} ±") if spread else f"{c} ±" for c in frame.columns}
    inside = {h for h in half.values() if h in frame.columns}
    key = ("", group) if spread else group
    hidden = {*inside, *heading, ("", "group")}
    names = [c for c in frame.columns if c not in hidden]
    chances = {c for c in names if (c[-1] if spread else str(c)) in P_VALUES}
    numeric = {c for c in names if pd.api.types.is_numeric_dtype(frame[c]) or frame[c].isna().all()}
    kinds = {c: "num" if c in numeric else _text_kind(frame[c]) for c in names}
    digits = {c: _digits(frame[c]) for c in numeric}
    rows = []
    previous = None
    for row in frame.to_dict("records"):
        cells = []
        for c in names:
            width = row.get(half[c])
            cells.append(
                GridCell(
                    "< .001"
                    if c in chances and _small(row[c])
                    else _number(row[c], digits[c])
                    if c in numeric
                    else _text(row[c]),
                    kinds[c],
                    "" if c in numeric else _badge(row[c]),
                    "" if width is None or pd.isna(width) else _number(width, digits[c]),
                    value=_float(row[c]) if c in numeric else None,
                    width=_float(width),
                )
            )
        value = row.get(key)
        new = value != previous
        above = [_text(row[name]) for name in heading] if new else []
        rows.append(GridRow(cells, above, previous is not None and new and not above, _facets(row)))
        previous = value
    return Grid(_head(names, kinds), rows, len(names), spread)


def _facets(row: Mapping[Any, Any]) -> dict[str, str]:
    """The values of a row that the page filters by; `split` is another word for a scenario."""
    found = {}
    for facet, columns in FACETS.items():
        value = next((row[c] for name in columns for c in (name, ("", name)) if c in row), None)
        if isinstance(value, str) and value:
            found[facet] = value
    return found


def _badge(value: Any) -> str:
    """The colour of a verdict; empty for any other text."""
    if not isinstance(value, str):
        return ""
    return "none" if value.startswith(TOO_FEW) else VERDICTS.get(value, "")


def _head(names: Sequence[Any], kinds: Mapping[Any, str]) -> list[list[GridCell]]:
    """The header row, or two: groups of columns over columns."""
    if not names or not isinstance(names[0], tuple):
        return [[GridCell(str(c), kinds[c], place=i) for i, c in enumerate(names)]]
    upper, lower = [], []
    at = {c: index for index, c in enumerate(names)}
    for title in dict.fromkeys(c[0] for c in names):
        mine = [c for c in names if c[0] == title]
        if title:
            upper.append(GridCell(title, "over", columns=len(mine)))
            lower += [GridCell(c[1], kinds[c], place=at[c]) for c in mine]
        else:
            upper += [GridCell(c[1], kinds[c], rows=2, place=at[c]) for c in mine]
    return [upper, lower]


def _text_kind(values: pd.Series) -> str:
    """The style of a text column: long texts are broken into lines, short ones are not."""
    longest = max((len(str(v)) for v in values.dropna()), default=0)
    return "text" if longest <= 40 else "text long"


def _digits(values: pd.Series) -> int:
    """Decimals to show: none for whole numbers, three for fractions, fewer for larger numbers."""
    known = values.dropna().astype(float)
    if known.empty or ((known == known.round()).all() and known.abs().max() > 1):
        return 0
    if pd.api.types.is_integer_dtype(values):
        return 0
    largest = known.abs().max()
    return 3 if largest < 10 else 1 if largest < 1000 else 0


def _number(value: Any, digits: int) -> str:
    if value is None or pd.isna(value):
        return MISSING
    return f"{value:z,.{digits}f}".replace("-", "−")  # z: no minus before a zero


def _small(value: Any) -> bool:
    """Tell whether a p-value is below the last digit that is written."""
    return not isinstance(value, str) and value is not None and not pd.isna(value) and value < 0.001


def _float(value: Any) -> float | None:
    """A number with all of its digits, a whole one as int; None where it is missing."""
    if value is None or pd.isna(value):
        return None
    return int(value) if isinstance(value, int) else float(value)


def _text(value: Any) -> str:
    return MISSING if value is None or (not isinstance(value, str) and pd.isna(value)) else str(value)
