"""A frame as an HTML table of the report. Text is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.statistics.intervals import TOO_FEW

VERDICTS = {
    "holds": "ok",
    "contradicted": "bad",
    **dict.fromkeys(("equivalent", "undecided", "not measured"), "none"),
}


def table(frame: pd.DataFrame, group: str = "scenario", heading: Sequence[str] = ()) -> str:
    """A frame as an HTML table, a line where column `group` changes, with the columns of `heading` on it.

    Numbers to the right, a column `x ±` inside column `x`, missing values a dash. Columns of two levels get
    two header rows, and the first column stays in sight.
    """
    spread = frame.columns.nlevels > 1
    half = {c: (*c[:-1], f"{c[-1]} ±") if spread else f"{c} ±" for c in frame.columns}
    inside = {h for h in half.values() if h in frame.columns}
    key = ("", group) if spread else group
    hidden = {*inside, *heading, ("", "group")}
    names = [c for c in frame.columns if c not in hidden]
    numeric = {c for c in names if pd.api.types.is_numeric_dtype(frame[c]) or frame[c].isna().all()}
    kinds = {c: "num" if c in numeric else _text_kind(frame[c]) for c in names}
    digits = {c: _digits(frame[c]) for c in numeric}
    body = []
    previous = None
    for row in frame.to_dict("records"):
        cells_ = []
        for c in names:
            shown = _number(row[c], digits[c]) if c in numeric else _badge(row[c]) or _text(row[c])
            width = row.get(half[c])
            shown += (
                "" if width is None or pd.isna(width) else f"<small>± {_number(width, digits[c])}</small>"
            )
            cells_.append(f'<td class="{kinds[c]}">{shown}</td>')
        value = row.get(key)
        mark = " class=group" if previous is not None and value != previous else ""
        if heading and value != previous:
            parts = [f"<span>{_text(row[name])}</span>" for name in heading]
            body.append(f'<tr class="heading"><th colspan={len(names)}>{" ".join(parts)}</th></tr>')
            mark = ""
        body.append(f"<tr{mark}>{''.join(cells_)}</tr>")
        previous = value
    wide = " wide" if len(names) > 12 else ""
    sticky = " spread" if spread else ""
    inner = f"<thead>{_head(names, kinds)}</thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="table{wide}{sticky}"><table>{inner}</table></div>'


def _badge(value: Any) -> str:
    """A verdict stands out; nothing for any other text."""
    if not isinstance(value, str):
        return ""
    mark = "none" if value.startswith(TOO_FEW) else VERDICTS.get(value)
    return f'<span class="badge {mark}">{html.escape(value)}</span>' if mark else ""


def _head(names: Sequence[Any], kinds: Mapping[Any, str]) -> str:
    """The header row, or two: groups of columns over columns."""
    if not names or not isinstance(names[0], tuple):
        cells_ = (f'<th class="{kinds[c]}">{html.escape(str(c))}</th>' for c in names)
        return f"<tr>{''.join(cells_)}</tr>"
    upper, lower = [], []
    for title in dict.fromkeys(c[0] for c in names):
        mine = [c for c in names if c[0] == title]
        if not title:
            upper += [f'<th rowspan=2 class="{kinds[c]}">{html.escape(c[1])}</th>' for c in mine]
            continue
        upper.append(f'<th colspan={len(mine)} class="over">{html.escape(title)}</th>')
        first = " first"
        for c in mine:
            lower.append(f'<th class="{kinds[c]}{first}">{html.escape(c[1])}</th>')
            first = ""
    return f"<tr>{''.join(upper)}</tr><tr>{''.join(lower)}</tr>"


def _text_kind(values: pd.Series) -> str:
    """Long texts are broken into lines, short ones are not."""
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
        return "–"
    return f"{value:z,.{digits}f}".replace("-", "−")  # z: no minus before a zero


def _text(value: Any) -> str:
    return (
        "–" if value is None or (not isinstance(value, str) and pd.isna(value)) else html.escape(str(value))
    )
