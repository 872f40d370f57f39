"""What `run` shows while it works: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live as RichLive

from search.amounts import clock
from search.display.named_table import named_table
from search.jobs.progress import CellProgress

PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal
LOOK_EVERY = 0.5  # seconds between two looks into the cells, which read every trial of a study


class Live:
    """A context manager; `update` is called by whoever changes the cells, in the thread that owns them.

    A thread of its own draws the last look, so that time goes on while nothing is reported.
    """

    def __init__(
        self,
        progress: Callable[[], Sequence[CellProgress]],
        direction: str = "max",
        console: Console | None = None,
    ) -> None:
        self.console = console or Console()
        self._progress = progress
        self._sign = 1.0 if direction == "max" else -1.0
        self._cells: Sequence[CellProgress] = progress()
        self._ended_before = _ended(self._cells)
        self._begin = self._looked = time.monotonic()
        self._end = threading.Event()
        self._rich: RichLive | None = None
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Live:
        if self.console.is_terminal:
            self._rich = RichLive(
                get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True
            )
            self._rich.start()
        else:
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._rich is not None:
            self._rich.stop()
        if kind is None:
            self._cells = self._progress()
            self.console.print(self._render())

    def update(self) -> None:
        """Look into the cells again, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._cells = self._progress()
            self._looked = time.monotonic()

    def line(self) -> str:
        """Everything in one line."""
        cells = self._cells
        done, total = _ended(cells), sum(cell.budget for cell in cells)
        running = sum(cell.running for cell in cells)
        failed = sum(cell.failed for cell in cells)
        parts = [f"{done}/{total} ended", f"{running} running"]
        if failed:
            parts.append(f"{failed} failed")
        known = [(self._sign * cell.best, cell) for cell in cells if cell.best is not None and not cell.seeks]
        if known:
            best = max(known, key=lambda pair: pair[0])[1]
            parts.append(f"best {best.best:.4f} ({best.cell})")
        return ", ".join([*parts, *self._pace(cells)])

    def _pace(self, cells: Sequence[CellProgress]) -> list[str]:
        """Time used, rate and time left, from what ended since the start of this command."""
        seconds = time.monotonic() - self._begin
        ended = _ended(cells)
        here, left = ended - self._ended_before, sum(cell.budget for cell in cells) - ended
        parts = [clock(seconds)]
        if here > 0:
            parts.append(f"{60 * here / seconds:.1f}/min")
            if left > 0:
                parts.append(f"about {clock(seconds * left / here)} left")
        return parts

    def _render(self) -> RenderableType:
        cells = self._cells
        return table(cells, self.console.width, ", ".join(self._pace(cells)))

    def _tick(self) -> None:
        while not self._end.wait(PLAIN_EVERY):
            self.console.print(self.line(), highlight=False, soft_wrap=True)


def table(cells: Sequence[CellProgress], room: int, caption: str = "") -> RenderableType:
    """The cells as a table: how many configurations of the budget ended, and how."""
    columns = ["cell", "done", "running", "stopped", "failed", "of", "best"]
    rows = [
        [
            f"{cell.cell} (paused)" if cell.paused else cell.cell,
            str(cell.completed),
            str(cell.running or ""),
            str(cell.stopped or ""),
            str(cell.failed or ""),
            str(cell.budget),
            _best(cell),
        ]
        for cell in cells
    ]
    return named_table(columns, rows, room, caption)


def _best(cell: CellProgress) -> str:
    """The best value of a cell; where a class order is sought, which one it belongs to."""
    if cell.best is None:
        return ""
    return f"{cell.best:.4f}" + (f" ({cell.seeks} order)" if cell.seeks else "")


def _ended(cells: Sequence[CellProgress]) -> int:
    return sum(cell.completed + cell.stopped + cell.failed for cell in cells)
