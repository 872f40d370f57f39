"""The selection of a cell in words, as the terminal and the report say it."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.lake.results import Results
from analysis.lake.searched_space import acting, spaces
from analysis.selection.confirmation import Candidate
from analysis.selection.selection import Cell, cells, rows_selected_on
from cl_core.records import OWN_DEFAULT


def searched_values(results: Results, cell: Cell, trial: int) -> str:
    """The searched values of a trial that act, as "kd_weight 2.1, lr 0.003"."""
    space = (spaces(results) or {}).get(cell.name, ())
    known = ((rows, np.flatnonzero(rows["trial"] == trial)) for rows in (cell.runs, cell.confirming))
    row = next((rows.iloc[at[:1]] for rows, at in known if len(at)), None)
    if row is None:
        return ""
    acts = acting(space, row)
    held = [p for p in space if not p.single and p.column in row and bool(acts[p.name].iloc[0])]
    return ", ".join(f"{p.short} {_short(p.value(row[p.column].iloc[0]))}" for p in held)


def selections_in_words(results: Results) -> list[str]:
    """Return a line for each selection that fresh class orders have confirmed."""
    return [line for cell in cells(results) if (line := selection_in_words(results, cell))]


def selection_in_words(results: Results, cell: Cell) -> str:
    """The selected trial of a cell, its difference from the default, and what confirmed it; empty without a
    confirmation."""
    known = cell.confirmation
    if known is None:
        return ""
    on = f"confirmed on {known.orders} class order{'s' if known.orders > 1 else ''}"
    on += f", {known.rows} {rows_selected_on(results)} each" if known.rows else ""
    if not known.compared:
        lack = "it has no completed run on the fresh class orders, so no trial can be compared with it"
        trial = _trial(results, cell, known.candidates[0])
        return f"{cell.name}: kept the default: {lack}; the best candidate is {trial}, {on}"
    if not known.kept:
        trial = _trial(results, cell, known.selected)
        return f"{cell.name}: selected {trial}: {_difference(known.selected)}, {on}"
    best = max(known.candidates, key=lambda one: one.p_better)
    keep = f"{known.keep_default:g}"
    return (
        f"{cell.name}: kept the default, as no trial is better with probability {keep} or more; "
        f"the best candidate, {_trial(results, cell, best)}: {_difference(best)}, {on}"
    )


def with_sign(value: float) -> str:
    """A difference with its sign and without a leading zero: +.012."""
    text = f"{round(value, 3) + 0.0:+.3f}" if abs(value) < 10 else f"{value:+.4g}"
    return text.replace("0.", ".", 1) if text[1:3] == "0." else text


def rounded(value: float) -> str:
    """A share with one digit and without a leading zero: .03."""
    return f"{value:.1g}".removeprefix("0")


def _difference(one: Candidate) -> str:
    probability = f"{one.p_better:.2f}".removeprefix("0")
    interval = f"[{with_sign(one.low)}, {with_sign(one.high)}]"
    return f"{with_sign(one.difference)} {interval} against the default, P(better) {probability}"


def _trial(results: Results, cell: Cell, one: Candidate) -> str:
    name = "the default" if one.trial == OWN_DEFAULT else f"trial {one.trial}"
    values = searched_values(results, cell, one.trial)
    return f"{name} ({values})" if values else name


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
