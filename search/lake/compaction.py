"""Compaction: while a study runs, the files of ended runs are merged, so that none has to read thousands."""

from __future__ import annotations

import threading
from pathlib import Path

from analysis.lake.run_folder import own_files, table_folder
from analysis.lake.run_rows import run_rows
from search.lake.writer import compact

SEGMENT = 128  # runs of a segment: the files of fewer runs stay as they are


class Compaction:
    """Merges the files of a command's ended runs in a thread of its own, `SEGMENT` runs at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[str] = []
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None

    def add(self, run: str) -> None:
        """Take an ended run, whose files nobody writes any more. Raises the error of the thread."""
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error
        self._waiting.append(run)
        if len(self._waiting) >= SEGMENT and (self._thread is None or not self._thread.is_alive()):
            runs, self._waiting = self._waiting, []
            self._thread = threading.Thread(target=self._merge, args=(runs,), name="compaction", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the thread. Runs that are left keep their files, until the next command."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _merge(self, runs: list[str]) -> None:
        try:
            compact(self._folder, runs)
        except Exception as error:  # such as a full disk, which the driver has to know
            self._failed = error


def compact_left(folder: Path) -> None:
    """Merge the files of ended runs that earlier commands left. The caller holds the lock of the folder."""
    own = {path.stem for path in own_files(table_folder(folder, "runs"))}
    if len(own) < SEGMENT:
        return
    ended = [run for run, row in run_rows(folder, columns=["status"]).items() if row["status"] != "failed"]
    compact(folder, ended)
