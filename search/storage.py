"""Opening a run's folder: one run at a time, and a journal that a crash may have left half written.

A driver that is killed leaves three things: the operating system drops the run's lock by itself; a stale
journal lock would cost 30 seconds at the next append; a partial last line would corrupt the journal at the
next append. Both are cleared here, which only the holder of the run's lock may do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from cl_core.errors import BadRequest

JOURNAL = "optuna.journal"
LOCK = ".lock"


def acquire(folder: Path) -> FileLock:
    """The lock of a run's folder, held until `release`. It is reentrant within a thread.

    Raises BadRequest when another run holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One object a path and process: whoever holds the run's lock may take it again.
        lock = FileLock(str(folder.absolute() / LOCK), is_singleton=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise BadRequest(
            f"another run is working in {folder}: wait for it or end it, or use another --out"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadRequest(
            f"cannot write into the run's folder {folder} ({reason}): choose another with --out"
        ) from None
    return lock


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while the block runs; see `acquire`."""
    lock = acquire(folder)
    try:
        yield
    finally:
        lock.release()


def open_journal(folder: Path) -> JournalStorage:
    """The Optuna storage of a run, mended where a crash left it. The caller holds the run's lock.

    Raises BadRequest when the journal is damaged elsewhere than at its end.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / JOURNAL
    if path.exists():
        mend(path)
    for stale in folder.glob(f"{JOURNAL}.lock*"):
        stale.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def read_journal(folder: Path) -> JournalStorage | None:
    """The Optuna storage of a run for reading, as it stands now; None where there is none. Changes
    nothing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / JOURNAL
    try:
        return JournalStorage(JournalFileBackend(str(path))) if path.exists() else None
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path} is damaged ({error}): restore it from a copy, or use another --out"
        ) from error


def mend(path: Path) -> int:
    """Cut the torn tail of a journal: a last line that has no end or is no JSON. Returns the bytes cut.

    Raises BadRequest when an earlier line is damaged: what follows it cannot be trusted.
    """
    whole = 0  # bytes up to the end of the last good line
    damaged: int | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if damaged is not None:
                raise BadRequest(
                    f"{path} is damaged in line {damaged} (not its last): restore it from a copy, "
                    "or use another --out"
                )
            if line.endswith(b"\n") and _is_record(line):
                whole += len(line)
            else:
                damaged = number
        size = file.seek(0, os.SEEK_END)
    if size > whole:
        with path.open("r+b") as file:
            file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())
    return size - whole


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
