"""Optuna's studies in a journal: a file of lines, which a crash may have left half written.

A driver that is killed leaves a stale journal lock, which would cost 30 seconds at the next append, and a
partial last line, which would corrupt the journal at the next append. Both are cleared here, which only the
holder of the run's lock may do. A journal that is damaged before its end is set aside, and made anew from the
tables (`search.cells.queue`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from cl_core.errors import BadRequest

JOURNAL = "optuna.journal"


class DamagedStudies(BadRequest):
    """The journal does not say what was written into it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}): give the command that made its folder again, which sets it aside "
            "and makes it anew from the tables"
        )
        self.path, self.reason = path, reason


def open_file(path: Path) -> JournalStorage:
    """A journal for reading and writing, mended where a crash left it. The caller holds the run's lock.

    Raises DamagedStudies when it is damaged elsewhere than at its end.
    """
    if path.exists():
        mend(path)
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink(missing_ok=True)
    return _opened(path, JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def read_file(path: Path) -> JournalStorage | None:
    """A journal as it stands now; None where there is none. Changes nothing. Raises DamagedStudies."""
    return _opened(path, JournalFileBackend(str(path))) if path.exists() else None


def _opened(path: Path, backend: JournalFileBackend) -> JournalStorage:
    try:
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # Optuna carries the lines out, and says in many ways that it cannot
        raise DamagedStudies(path, f"its lines cannot be carried out, {type(error).__name__}") from error


def mend(path: Path) -> int:
    """Cut the torn tail of a journal: a last line that has no end or is no JSON. Returns the bytes cut.

    Raises DamagedStudies when an earlier line is damaged: what follows it cannot be trusted.
    """
    whole = 0  # bytes up to the end of the last good line
    damaged: int | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if damaged is not None:
                raise DamagedStudies(path, f"line {damaged}, not its last")
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
