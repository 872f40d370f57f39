"""Differences that a study cannot tell from luck, by its validation rows and class orders."""

from __future__ import annotations

from analysis.selection.in_words import rounded
from analysis.statistics.counting_error import luck
from cl_core.images.view import rows_left
from cl_core.metrics import METRICS
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.study.protocol import unconfirmed

SMALL = 0.01  # differences of this size are worth knowing


def lucky(study: ResolvedStudy) -> list[str]:
    """Return a warning for the cells whose selection rests on differences that may be luck.

    Two accuracies on n rows and k runs each differ by sqrt(2 p (1 - p) / (n k)) by chance, one standard error
    at p = 1/2. Cells that are confirmed, or have nothing to select, get no warning.
    """
    protocol = study.study.protocol
    if protocol.select_on in ("chf", "adaptive", "oracle-test", "fixed") or study.objective not in METRICS:
        return []
    found: dict[str, list[str]] = {}
    for cell in study.cells:
        if cell.confirm is not None or cell.budget < 2 or cell.seeks:
            continue
        rows, runs = _rows(study, cell), len(study.runs(cell))
        if (chance := luck(rows, runs)) > SMALL:
            on = f"{runs} runs of a trial" if runs > 1 else "one class order"
            line = f"with {rows} validation rows and {on}, differences under {rounded(chance)} are luck: "
            found.setdefault(line, []).append(cell.name)
    ways = ["protocol.orders", "protocol.validation"]
    if not unconfirmed(protocol.select_on, protocol.aggregate):
        ways.insert(0, "protocol.confirm")
    remedy = f"set {', '.join(ways[:-1])} or {ways[-1]}"
    return [f"{line}{remedy} ({', '.join(names)})" for line, names in found.items()]


def _rows(study: ResolvedStudy, cell: Cell) -> int:
    """Return the validation rows that a run is measured on after its last task, in the mean of all orders."""
    left = rows_left(study.data, study.study.protocol.validation)
    held = len(study.data.train) - int(left.sum())
    return round(held * sum(cell.sizes[: cell.tasks]) / sum(cell.sizes))
