"""The table of cells that `run` and `evaluate` end with, and the command that comes next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from analysis import Results, open_results
from analysis.lake.run_folder import STUDY
from analysis.selection.in_words import rounded, searched_values, selection_in_words, with_sign
from analysis.selection.reference import reference
from analysis.selection.selection import Cell, cells, final_default, order_searches
from analysis.selection.trials import span
from analysis.statistics.counting_error import luck
from analysis.statistics.sample import Sample, recorded
from cl_core.metrics import METRICS
from search.display.named_table import named_table
from search.remote.copies import shown
from spaces.study.confirmation import ConfirmPart

NAMED = 3  # cells that a line lists


@dataclass(frozen=True)
class Outcome:
    """A table of cells on one split, with a heading and lines below it."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    values: Sequence[tuple[str, str]]  # cell, the values of its selected trial
    confirmed: Sequence[str]  # a line for each confirmed selection
    lines: Sequence[str]

    def shown(self, room: int, height: int = 1000) -> Iterator[RenderableType]:
        """Yield heading, table and lines, `room` characters wide; of confirmed cells as many as fit."""
        yield Text(self.heading)
        if self.rows:
            yield named_table(self.columns, self.rows, room)
        fit = max(1, (height - len(self.rows) - 12) // (1 + max(map(len, self.confirmed), default=1) // room))
        for line in self.confirmed[:fit]:
            yield Text(line)
        if (hidden := len(self.confirmed) - fit) > 0:
            yield Text(f"and {hidden} more selected trials: see the report")
        for cell, values in self.values:
            line = f"{cell}: {values}"
            yield Text(line if len(line) <= room else f"{cell}:\n  {_cut(values, room - 2)}")
        for line in self.lines:
            yield Text(line)


def outcome(folder: Path) -> Outcome:
    """Return the outcome of a run folder: on test rows where there are final runs, else on selection rows."""
    results = open_results(folder)
    name, direction = results.study.objective
    found = cells(results)
    final = any((cell.best["purpose"] == "final").any() for cell in found)
    split = "test" if final or results.study.protocol.split == "test" else "validation"
    rows = [_row(results, cell, name, final) for cell in found if len(cell.best)]
    rows, columns = _without_empty([["trial", "selected", "default", "gain", "finetune", "joint"], *rows])
    confirmed = [cell for cell in found if cell.confirmation is not None and not final]
    others = [cell for cell in found if cell.confirmation is None or final]
    lines = [f"{cell.name}: nothing to select, {_ended(cell)}" for cell in found if not len(cell.best)]
    lines += [_sought(results, cell, name) for cell in order_searches(results) if len(cell.best)]
    waiting = [cell.name for cell in found if not len(cell.final) and len(cell.selected)]
    if waiting and any(len(cell.final) for cell in found):
        lines.append(f"no final runs yet: {', '.join(waiting)}")
    if len(results.study.objectives) > 1:
        lines.append("selected by the first objective alone; the report shows the Pareto front")
    if not final and (line := _unconfirmed(results, others)):
        lines.append(line)
    orders = {cell.best["class_order"].nunique() for cell in found if len(cell.best)} or {0}
    spread = f", ± half the 95 % interval over {span(orders)} class orders" if max(orders) > 1 else ""
    better = "higher" if direction == "max" else "lower"
    gain = "; gain: over the default, by all runs of the cell" if "gain" in columns and not final else ""
    return Outcome(
        f"{name.replace('_', ' ')} on {split} rows{spread} ({better} is better){gain}:",
        columns,
        rows,
        [(cell.name, text) for cell in others if (text := _values(results, cell))],
        [selection_in_words(results, cell) for cell in confirmed],
        lines,
    )


def _unconfirmed(results: Results, found: Sequence[Cell]) -> str:
    """Return a line on the cells whose selection no fresh class order has confirmed, and how to confirm it.

    Empty where there are none, where the protocol confirms nothing, and for a cost, no share of rows.
    """
    study = results.study
    if study.protocol.select_on in ("chf", "adaptive", "oracle-test", "fixed") or study.protocol.worst:
        return ""
    records = {cell.name: cell for cell in study.resolved.cells}
    open_ = [cell for cell in found if len(cell.ranking) > 1]
    if not open_:
        return ""
    names = ", ".join(cell.name for cell in open_[:NAMED]) + (", ..." if len(open_) > NAMED else "")
    if all((record := records.get(cell.name)) and record.confirm for cell in open_):
        failed = any((cell.confirming["status"] == "failed").any() for cell in open_)
        return f"not confirmed{', as confirming runs failed' if failed else ' yet'}: {names}"
    if study.objective[0] not in METRICS:
        return ""
    counts = [results.confusions(cell.best["run"].iloc[0], cell.best["split"].iloc[0]) for cell in open_]
    rows = min((int(count[-1].sum()) for count in counts if count), default=0)
    count = study.protocol.runs
    on = f"on {count} runs of a trial" if count > 1 else "on one class order"
    chance = f", differences under {rounded(luck(rows, count))} are luck" if rows else ""
    return f"not confirmed, selected {on}{chance}: {names}; {_how_to_confirm(results, open_)}"


def _how_to_confirm(results: Results, found: Sequence[Cell]) -> str:
    """Return what confirms cells: a command that pays for it with more trials."""
    study, confirm = results.study, ConfirmPart()
    more = math.ceil(confirm.runs / study.protocol.runs)
    setting = f"protocol.confirm={{top: {confirm.top}, orders: {confirm.orders}}}"
    names, trials = {cell.name for cell in found}, study.plain.get("search", {}).get("trials")
    if study.sampler == "grid" and any(c.name in names and c.budget == trials for c in study.resolved.cells):
        # More trials would go to the rest of the grid, which is searched first.
        return f"to confirm a grid, set search.trials to its size and {more} more, and {setting}"
    words = ["cl-search", "run", f"{shown(results.folder)}/{STUDY}", "--out", shown(results.folder)]
    words += ["--trials", f"+{more}", "--set", setting]
    return f"to confirm: {shlex.join(words)}"


def next_command(folder: Path) -> str | None:
    """Return the next command: evaluate, then export; None where no trial is selected."""
    found = [cell for cell in cells(open_results(folder)) if len(cell.selected)]
    if not found:
        return None
    measured = open_results(folder).study.protocol.select_on == "fixed"
    verb = "export" if measured or all(len(cell.final) for cell in found) else "evaluate"
    why = {
        "evaluate": "train the selected trials again and open the test set",
        "export": "write each cell's study file, and its model trained on all rows",
    }[verb]
    return f"next: {shlex.join(['cl-search', verb, shown(folder)])} ({why})"


def _row(results: Results, cell: Cell, name: str, final: bool) -> list[str]:
    default = final_default(results, cell) if final else cell.default
    default = default[default["class_order"].isin(cell.best["class_order"])]
    same = _is_default(cell) or set(default["run"]) == set(cell.best["run"])
    mine, other = _sample(results, cell.best, name), _sample(results, default, name)
    value, half = mine.mean.value, mine.mean.half
    out = [cell.name, cell.selected_name.removeprefix("trial "), _number(value, name)]
    out[2] += "" if half is None else f" ± {_number(half, name)}"
    out.append("same" if same else _number(other.mean.value, name))
    out.append("" if same else _gain(cell, mine - other, final))
    for method in ("finetune", "joint"):
        known = reference(results, cell, method).cell
        out.append("" if known is None else _number(_sample(results, known.best, name).mean.value, name))
    return out


def _gain(cell: Cell, paired: Sample, final: bool) -> str:
    """Return selected trial minus default with half its 95 % interval.

    Final runs pair class orders; before, it is that of the confirmation. Without one it is luck, so empty.
    """
    known = cell.confirmation
    if final:
        value, half = paired.mean.value, paired.mean.half
    elif known is not None and known.compared:
        value, half = known.selected.difference, (known.selected.high - known.selected.low) / 2
    else:
        return ""
    if value is None or not math.isfinite(value):
        return ""
    return with_sign(value) + ("" if half is None else f" ± {with_sign(half)[1:]}")


def _sample(results: Results, runs: pd.DataFrame, name: str) -> Sample:
    return Sample.of(recorded(results, runs, "objective", name))


def _without_empty(table: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """Return rows and columns without empty ones, and without the default where it is always selected."""
    head, *rows = table
    columns = ["cell", *head]
    if all(row[3] == "same" for row in rows):
        columns.pop(3)
        rows = [[*row[:3], *row[4:]] for row in rows]
    dash = [[text or "-" for text in row] for row in rows]
    empty = {k for k in range(len(columns)) if all(not row[k] for row in rows)}
    return [[row[k] for k in range(len(columns)) if k not in empty] for row in dash], [
        column for k, column in enumerate(columns) if k not in empty
    ]


def _values(results: Results, cell: Cell) -> str:
    """Return the searched values of the selected trial that act; empty for the published default."""
    if cell.selected_trial is None or _is_default(cell):
        return ""
    return searched_values(results, cell, cell.selected_trial)


def _is_default(cell: Cell) -> bool:
    """Tell whether the published default is selected."""
    if cell.confirmation is not None:
        return cell.confirmation.kept
    return set(cell.selected_digest) <= set(cell.default["trial_digest"])


def _sought(results: Results, cell: Cell, name: str) -> str:
    orders = ", ".join(dict.fromkeys(map(str, cell.best["class_order"])))
    value = _number(_sample(results, cell.best, name).mean.value, name)
    return f"{cell.name}: {cell.seeks} class order {orders}, {value}"


def _ended(cell: Cell) -> str:
    counts = [(cell.count(status), status) for status in ("completed", "stopped", "failed")]
    return ", ".join(f"{count} {status}" for count, status in counts if count) or "no run has ended"


def _number(value: float | None, name: str) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _cut(text: str, room: int) -> str:
    """Cut a list of values to the room."""
    if len(text) <= room:
        return text
    parts = text.split(", ")
    while parts and len(", ".join(parts)) > room - len(", ..."):
        parts.pop()
    return ", ".join([*parts, "..."])
