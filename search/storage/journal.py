"""Optuna's journal: a file of lines, the last of which a crash may have cut short.

A killed driver leaves a stale lock, which would cost 30 seconds at the next append, and a partial last line,
which would corrupt the journal then. Both are removed here; only the holder of the folder's lock may do so.
Each line ends with the CRC-32 of its text, a key that Optuna passes over: a flipped bit in a number would
change what a sampler proposes. A journal that is damaged before its end is set aside, and made again from the
tables (`search.cells.recovery`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from cl_core.errors import BadRequest

_SEAL = b',"crc32":"'  # then eight digits, and the end of the line


class DamagedStudies(BadRequest):
    """The journal is not as it was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}): give the command that made its folder again, which sets it aside "
            "and makes it again from the tables"
        )
        self.path, self.reason = path, reason


class _SealedFile(JournalFileBackend):
    """A journal whose lines carry their checksums. Its one writer finds out if it has lost some."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))
        self._path, self._size = path, path.stat().st_size

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines. Raises DamagedStudies if the file is shorter than it was, OSError on a full disk."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < self._size:
            raise DamagedStudies(self._path, f"{self._size - size} bytes were lost while a command worked")
        try:
            super().append_logs([_sealed(log) for log in logs])
        except RuntimeError as error:  # its lock could not be freed, which hides what the disk said
            hidden = error.__context__
            raise (hidden if isinstance(hidden, OSError) else error) from error
        self._size = self._path.stat().st_size


def _sealed(log: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(log, separators=(",", ":")).encode()  # as Optuna writes it
    return {**log, "crc32": f"{zlib.crc32(text[:-1]):08x}"}


class _Journal(JournalStorage):
    """A journal that looks for enqueued trials only among the last ones.

    Each new trial begins with such a look. Optuna's goes through all trials of the study.
    """

    def __init__(self, file: JournalFileBackend) -> None:
        self._begun: dict[int, int] = {}  # study -> its first trials, none of which waits
        super().__init__(file)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study, perhaps of some states alone."""
        if states != (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        waiting: list[FrozenTrial] = []
        with contextlib.suppress(KeyError):  # after the last
            for number in itertools.count(self._begun.get(study_id, 0)):
                trial = self.get_trial(self.get_trial_id_from_study_id_trial_number(study_id, number))
                if trial.state == TrialState.WAITING:
                    waiting.append(trial)
                elif not waiting:
                    self._begun[study_id] = number + 1
        return waiting


def open_file(path: Path) -> JournalStorage:
    """Open a journal to read and write, and mend its end. The caller holds the lock of the folder.

    Raises DamagedStudies if it is damaged before its end.
    """
    if path.exists():
        mend(path)
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink(missing_ok=True)
    return _opened(path, _SealedFile(path))


def read_file(path: Path) -> JournalStorage | None:
    """Open a journal to read; None if there is none. Changes nothing. Raises DamagedStudies."""
    return _opened(path, JournalFileBackend(str(path))) if path.exists() else None


def _opened(path: Path, file: JournalFileBackend) -> JournalStorage:
    try:
        return _Journal(file)
    except OSError:
        raise
    except Exception as error:  # Optuna replays the lines, and fails in many ways
        raise DamagedStudies(path, f"its lines cannot be replayed, {type(error).__name__}") from error


def mend(path: Path) -> int:
    """Cut a last line that has no end or is not as it was written; return the number of bytes cut.

    Raises DamagedStudies if an earlier line is damaged: the lines after it cannot be trusted.
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
    """Tell whether a line is as it was written: by its checksum, or, without one, by its syntax."""
    text, seal, number = line.rpartition(_SEAL)
    if seal:
        return number == b'%08x"}\n' % zlib.crc32(text)
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
