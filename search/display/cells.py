"""The table of cells: how many of a cell's trials, or runs, have ended, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType

from search.display.named_table import named_table
from search.jobs.progress import CellProgress
from search.worker.progress import RunProgress

STYLES = {"completed": "green", "running": "yellow", "stopped": "cyan", "failed": "red"}


def cell_table(
    cells: Sequence[CellProgress], room: int, unit: str = "trials", caption: str = ""
) -> RenderableType:
    """Return the cells as a table `room` characters wide; `unit` names what is counted."""
    columns = ["cell", "completed", "running", "stopped", "failed", unit, "confirmed", "best"]
    rows = [
        [
            f"{cell.cell} (paused)" if cell.paused else cell.cell,
            str(cell.completed),
            str(cell.running or ""),
            str(cell.stopped or ""),
            str(cell.failed or ""),
            str(cell.budget),
            f"{cell.confirmed}/{cell.to_confirm}" if cell.to_confirm else "",
            _best(cell),
        ]
        for cell in cells
    ]
    return named_table(columns, rows, room, caption, STYLES)


def meaning_of_best(objective: str, split: str) -> str:
    """Return a line that names the values in the column `best`."""
    return f"best: {objective.replace('_', ' ')}, {split}"


def with_running(cells: Sequence[CellProgress], runs: Sequence[RunProgress]) -> list[CellProgress]:
    """Count as running what trains now; a trial that waits for its next run, or for a worker, does not."""
    trials = {tuple(run.run.split("/")[:2]) for run in runs}
    running = Counter(cell for cell, *_ in trials)
    return [replace(cell, running=running[cell.cell]) for cell in cells]


def ended(cells: Sequence[CellProgress]) -> int:
    """Return how many trials, or runs, have ended, with the runs that confirm a selection."""
    return sum(cell.ended + cell.confirmed for cell in cells)


def total(cells: Sequence[CellProgress]) -> int:
    """Return how many trials, or runs, there will be, with the runs that confirm a selection."""
    return sum(cell.most + cell.to_confirm for cell in cells)


def ended_in_words(cells: Sequence[CellProgress], unit: str) -> str:
    """Return how many have ended of how many: "5/5 trials and 2/9 confirming runs ended"."""
    text = f"{sum(cell.ended for cell in cells)}/{sum(cell.most for cell in cells)} {unit}"
    if confirming := sum(cell.to_confirm for cell in cells):
        text += f" and {sum(cell.confirmed for cell in cells)}/{confirming} confirming runs"
    return f"{text} ended"


def fewer(cells: Sequence[CellProgress], count: int) -> list[CellProgress]:
    """Return `count` cells in their order: those that work first, then those that have most left to do."""
    left = {cell.cell: total([cell]) - ended([cell]) for cell in cells}
    chosen = sorted(cells, key=lambda cell: (-cell.running, -left[cell.cell]))[:count]
    return [cell for cell in cells if cell in chosen]


def _best(cell: CellProgress) -> str:
    """Return the best value of a cell; where class orders are searched, with the order it belongs to."""
    if cell.best is None:
        return ""
    return f"{cell.best:.4f}" + (f" ({cell.seeks} order)" if cell.seeks else "")
