"""Mirror: Optuna's file on this machine's own disk, with a copy in a run folder on a network file system.

The copy is written aside and renamed, at most a few seconds after a change, and at the end. A token beside
both files shows that they belong together: then the file here is the younger one. If another machine has
worked in between, the tokens differ, and the copy counts.

If a driver is killed and the study continues on another machine, the copy is a few seconds old. Trials that
it lacks are sampled again, and the tables have the runs that have ended.
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

EVERY = 3.0  # seconds between two copies
_TOKEN = ".optuna-copy-of"


class Mirror:
    """A file and its copy: `path` is the file to work on. The caller holds the lock of the folder."""

    def __init__(self, folder: Path, name: str, own: Path, run: str) -> None:
        self.path, self._copy = place_here(folder, name, own, run), folder / name
        self._seen: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and write the last copy. Raises OSError if the run folder does not take it."""
        self._end.set()
        self._thread.join()
        self.copy()

    def copy(self) -> None:
        """Write the copy, unless nothing has changed. Raises OSError."""
        with self._lock:
            seen = _state(self.path)
            if seen is None or seen == self._seen:
                return
            with aside(self._copy) as hidden:
                copy_between_changes(self.path, hidden)
            self._seen = seen

    def _take(self) -> None:
        """Begin with the file here if the copy was made from it, else with the copy."""
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
            with aside(folder / _TOKEN) as hidden:
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
    """Return the path of a study's file on this machine; two folders never share it."""
    return own / f"{run}-{digest([os.path.realpath(folder)], 8)}" / name


def readable(folder: Path, name: str, own: Path | None, run: str) -> Path:
    """Return the file to read: the one here if it is the younger one, else the copy."""
    if own is not None:
        here = place_here(folder, name, own, run)
        if here.exists() and _belongs(here.parent, folder):
            return here
    return folder / name


def _belongs(own: Path, folder: Path) -> bool:
    try:
        return (own / _TOKEN).read_text(encoding="utf-8") == (folder / _TOKEN).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def copy_between_changes(path: Path, to: Path) -> None:
    """Copy a journal or an SQLite file that may change meanwhile. Raises OSError, sqlite3.Error."""
    if path.suffix == ".sqlite3":
        _copy_sqlite(path, to)
    else:
        _copy_lines(path, to)


def _copy_lines(path: Path, to: Path) -> None:
    """Copy whole lines: the last one may be half written."""
    whole = path.read_bytes()
    to.write_bytes(whole[: whole.rfind(b"\n") + 1])


def _copy_sqlite(path: Path, to: Path) -> None:
    """Copy the state between two changes. SQLite itself works on this machine's disk only."""
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
