"""The live view of a command at work: tables and bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.text import Text

from analysis.lake.amounts import clock
from search.display.cells import cell_table, ended, ended_in_words, fewer, total, with_running
from search.display.runs import in_words, run_lines
from search.jobs.progress import CellProgress
from search.worker.progress import RunProgress, read_progress_files

PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal
LOOK_EVERY = 0.5  # seconds between two looks into the cells, which read every trial of a study


class Live:
    """A context manager that shows progress. Whoever changes the cells calls `update`, in their thread.

    Another thread draws the last look, so that time goes on while nothing is reported. `unit` names what the
    cells count; `best` is a line that names the values in that column.
    """

    def __init__(
        self,
        progress: Callable[[], Sequence[CellProgress]],
        folder: Path,
        direction: str = "max",
        console: Console | None = None,
        unit: str = "trials",
        best: str = "",
    ) -> None:
        self.console = console or Console()
        self._progress, self._folder, self._unit, self._best = progress, folder, unit, best
        self._sign = 1.0 if direction == "max" else -1.0
        self._cells: Sequence[CellProgress] = progress()
        self._ended_before = ended(self._cells)
        self._begin = self._looked = time.monotonic()
        self._end = threading.Event()
        self._rich: RichLive | None = None
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Live:
        if self.console.is_terminal:
            self._rich = RichLive(
                get_renderable=self._screen, console=self.console, refresh_per_second=2, transient=True
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
            self.console.print(self._view(with_running(self._cells, []), []))

    def update(self) -> None:
        """Look into the cells again, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._cells = self._progress()
            self._looked = time.monotonic()

    def line(self) -> str:
        """Return everything in one line."""
        runs = read_progress_files(self._folder)
        cells = with_running(self._cells, runs)
        running = sum(cell.running for cell in cells)
        failed = sum(cell.failed for cell in cells)
        parts = [ended_in_words(cells, self._unit)]
        if running:
            parts.append(f"{running} running ({'; '.join(map(in_words, runs))})")
        if failed:
            parts.append(f"{failed} failed")
        known = [(self._sign * cell.best, cell) for cell in cells if cell.best is not None and not cell.seeks]
        if known:
            best = max(known, key=lambda pair: pair[0])[1]
            parts.append(f"best {best.best:.4f} ({best.cell})")
        return ", ".join([*parts, *self._pace(cells)])

    def _pace(self, cells: Sequence[CellProgress]) -> list[str]:
        """Return time used, rate and time left, by what has ended since the command started."""
        seconds = time.monotonic() - self._begin
        done = ended(cells)
        here, left = done - self._ended_before, total(cells) - done
        parts = [clock(seconds)]
        if here > 0:
            parts.append(f"{60 * here / seconds:.1f} {self._unit}/min")
            if left > 0:
                parts.append(f"about {clock(seconds * left / here)} left")
        return parts

    def _screen(self) -> RenderableType:
        """Return the view, no higher than the terminal."""
        runs = read_progress_files(self._folder)
        cells = with_running(self._cells, runs)
        runs = runs[: max(1, self.console.height // 3)]
        count = len(cells)
        while True:
            view = self._view(fewer(cells, count) if count < len(cells) else cells, runs, len(cells) - count)
            over = len(self.console.render_lines(view, pad=False)) - (self.console.height - 1)
            if over <= 0 or count <= 1:
                return view
            count = max(1, count - max(1, over // 2))

    def _view(
        self, shown: Sequence[CellProgress], runs: Sequence[RunProgress], hidden: int = 0
    ) -> RenderableType:
        room, pace = self.console.width, ", ".join(self._pace(self._cells))
        parts: list[RenderableType] = []
        if self._best and any(cell.best is not None for cell in shown):
            parts.append(Text(self._best))
        parts.append(cell_table(shown, room, self._unit, "" if hidden else pace))
        if hidden:
            done = f"{ended(self._cells)}/{total(self._cells)} {self._unit} ended"
            parts.append(Text(f"and {hidden} more cells; {done}, {pace}", style="dim italic"))
        return Group(*parts, *run_lines(runs, room))

    def _tick(self) -> None:
        while not self._end.wait(PLAIN_EVERY):
            self.console.print(self.line(), highlight=False, soft_wrap=True)
