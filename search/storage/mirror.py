"""Optuna's file of a run whose folder lies on a network file system: kept on this machine's own disk, with a
copy in the run's folder.

The copy is written aside and renamed, a few seconds after a change at most, and at the end. A token beside
both files says whose copy it is: where it is the same, the file here is what the copy was made of, and the
younger of the two. Where another machine has worked in between, the copy is taken.

A driver that is killed, and continued on another machine, finds a copy that is a few seconds old. What the
copy lacks is asked again, and the runs that have ended stand in the tables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import uuid
from pathlib import Path

from cl_core.aside import aside
from cl_core.hparams import digest

EVERY = 3.0  # seconds between two copies at least, and from a change to its copy at most
TOKEN = ".optuna-copy-of"


class Mirror:
    """`path` is the file to work on. The caller holds the run's lock; `close` writes the last copy."""

    def __init__(self, folder: Path, name: str, own: Path, run: str) -> None:
        self.path, self._copy = place_here(folder, name, own, run), folder / name
        self._seen: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the copy of what stands now. Raises OSError where the run's folder does not take it."""
        self._end.set()
        self._thread.join()
        self.copy()

    def copy(self) -> None:
        """Write the copy, unless it is what stands. Raises OSError."""
        with self._lock:
            seen = _state(self.path)
            if seen is None or seen == self._seen:
                return
            with aside(self._copy) as hidden:
                if self.path.suffix == ".sqlite3":
                    _copy_sqlite(self.path, hidden)
                else:
                    _copy_lines(self.path, hidden)
            self._seen = seen

    def _take(self) -> None:
        """Begin with the file here where the copy was made of it, else with the copy."""
        own = self.path.parent
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and _belongs(own, self._copy.parent):
            return
        token = uuid.uuid4().hex
        for stale in own.glob(f"{self.path.name}*"):
            stale.unlink()
        if self._copy.exists():
            with aside(self.path) as hidden:
                shutil.copyfile(self._copy, hidden)
        # A crash between the two leaves them different: then the copy, which is the same, is taken again.
        for folder in (own, self._copy.parent):
            with aside(folder / TOKEN) as hidden:
                hidden.write_text(token, encoding="utf-8")

    def _follow(self) -> None:
        while not self._end.wait(EVERY):
            begun = time.monotonic()
            with contextlib.suppress(OSError, sqlite3.Error):  # the next one, or the last, may succeed
                self.copy()
            # A slow network is not kept busy with copies.
            if self._end.wait(max(0.0, 9 * (time.monotonic() - begun) - EVERY)):
                return


def place_here(folder: Path, name: str, own: Path, run: str) -> Path:
    """Where the file of a run is kept on this machine; two folders never share it."""
    return own / f"{run}-{digest([os.path.realpath(folder)], 8)}" / name


def readable(folder: Path, name: str, own: Path | None, run: str) -> Path:
    """The file to look into: the one here where it is the younger one, else the copy."""
    if own is not None:
        here = place_here(folder, name, own, run)
        if here.exists() and _belongs(here.parent, folder):
            return here
    return folder / name


def _belongs(own: Path, folder: Path) -> bool:
    try:
        return (own / TOKEN).read_text(encoding="utf-8") == (folder / TOKEN).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _copy_lines(path: Path, to: Path) -> None:
    """Whole lines: the last one may be half written."""
    whole = path.read_bytes()
    to.write_bytes(whole[: whole.rfind(b"\n") + 1])


def _copy_sqlite(path: Path, to: Path) -> None:
    """As it stands between two changes; SQLite itself works on this machine's disk alone."""
    still = path.with_name(f"{path.name}.still")
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as one,
            contextlib.closing(sqlite3.connect(still)) as two,
        ):
            one.backup(two)
        shutil.copyfile(still, to)
    finally:
        still.unlink(missing_ok=True)
