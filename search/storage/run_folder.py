"""A run's folder: one run at a time in it; and its Optuna studies, wherever they are kept.

`storage.optuna` of the run's study.yaml says where: a journal or an SQLite file in the folder, a file or a
server that several runs share. In what is shared, a run's studies are named after the run as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage

from cl_core.errors import BadRequest
from search.storage.database import Database
from search.storage.file_systems import network_type, own_place
from search.storage.journal import JOURNAL, mend, open_file, read_file
from search.storage.mirror import Mirror, readable
from spaces.study.storage import StoragePart
from spaces.study.storage_url import FILES, SQLITE, sqlite_path
from spaces.study.study_file import RESOLVED, existing_study

__all__ = [
    "JOURNAL", "LOCK", "SQLITE_FILE", "Studies", "acquire", "check_storage", "held", "mend", "open_journal",
    "open_studies", "read_journal", "read_studies",
]  # fmt: skip

SQLITE_FILE = "optuna.sqlite3"
LOCK = ".lock"
_RUN = re.compile(r"[0-9a-f]{12}")


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


class Studies:
    """The Optuna studies of one run: `storage`, and the names of its studies, which begin with `prefix`."""

    def __init__(
        self,
        storage: BaseStorage,
        prefix: str = "",
        database: Database | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.storage, self.prefix = storage, prefix
        self.file: Path | None = None  # the journal, where there is one
        self._database, self._mirror = database, mirror

    def __enter__(self) -> Studies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ids(self) -> dict[str, int]:
        """The studies of this run: name without the prefix -> Optuna's id."""
        return {
            study.study_name.removeprefix(self.prefix): study._study_id
            for study in self.storage.get_all_studies()
            if study.study_name.startswith(self.prefix)
        }

    def close(self) -> None:
        """Let connections go, and write the last copy where there is one. Raises OSError."""
        if self._database is not None:
            self._database.close()
        if self._mirror is not None:
            mirror, self._mirror = self._mirror, None
            mirror.close()


def open_studies(folder: Path, part: StoragePart | None = None) -> Studies:
    """A run's studies to work on, mended where a crash left them. The caller holds the run's lock.

    `part` is the study's storage, with its password if it has one; left out, what study.yaml says counts.
    Raises DamagedStudies when a journal is damaged, BadRequest when they cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    part, run, prefix = _place(folder, part)
    place = part.optuna or "journal"
    if place not in FILES:
        database = Database(place, part.password)
        assert database.optuna is not None
        return Studies(database.optuna, prefix, database)
    name = JOURNAL if place == "journal" else SQLITE_FILE
    path, mirror = folder / name, None
    if network_type(folder) and run is not None and (own := own_place()) is not None:
        mirror = Mirror(folder, name, own, run)
        path = mirror.path
    try:
        if place == "journal":
            studies = Studies(open_file(path), mirror=mirror)
            studies.file = path
            return studies
        database = Database(SQLITE + str(path.absolute()))
        assert database.optuna is not None
        return Studies(database.optuna, database=database, mirror=mirror)
    except BaseException:
        if mirror is not None:
            mirror.close()
        raise


def read_studies(folder: Path, part: StoragePart | None = None) -> Studies | None:
    """A run's studies for reading, as they stand now; None where there are none. Changes nothing.

    Raises BadRequest when they are damaged, or cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    part, run, prefix = _place(folder, part)
    place = part.optuna or "journal"
    if place in FILES:
        name = JOURNAL if place == "journal" else SQLITE_FILE
        path = folder / name
        if run is not None and network_type(folder):
            path = readable(folder, name, own_place(), run)
        if place == "journal":
            journal = read_file(path)
            return None if journal is None else Studies(journal)
        place = SQLITE + str(path.absolute())
    database = Database(place, part.password, read_only=True)
    if database.optuna is None:
        database.close()
        return None
    return Studies(database.optuna, prefix, database)


def check_storage(part: StoragePart, folder: Path) -> None:
    """Raise BadRequest unless Optuna's studies can be kept where `storage.optuna` says; nothing is made."""
    place = part.optuna or "journal"
    if place == "sqlite" and network_type(folder) and own_place() is None:
        raise BadRequest(
            f"storage.optuna sqlite needs a disk of this machine, and {folder} and the home lie on "
            f"{network_type(folder)}: set XDG_STATE_HOME to a local folder, or use journal"
        )
    if place in FILES:
        return
    if place.startswith(SQLITE):
        path = sqlite_path(place)
        if not path.parent.is_dir():
            raise BadRequest(f"storage.optuna {place} needs the folder {path.parent}: make it")
        if kind := network_type(path):
            raise BadRequest(
                f"storage.optuna {place} lies on {kind}, where SQLite's locks do not hold: use sqlite or "
                "journal, which work on a local copy, or postgresql"
            )
    Database(place, part.password, read_only=True).close()


def open_journal(folder: Path) -> JournalStorage:
    """The journal in a run's folder; see `search.storage.journal.open_file`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return open_file(folder / JOURNAL)


def read_journal(folder: Path) -> JournalStorage | None:
    """The journal in a run's folder for reading; see `search.storage.journal.read_file`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return read_file(folder / JOURNAL)


def _place(folder: Path, part: StoragePart | None) -> tuple[StoragePart, str | None, str]:
    """Where a run keeps its studies, its id, and what its studies' names begin with."""
    there: dict[str, Any] = existing_study(folder) or {}
    stored = there.get("storage") or {}
    if part is None:
        part = StoragePart(optuna=stored.get("optuna")) if isinstance(stored, dict) else StoragePart()
    run = str((there.get(RESOLVED) or {}).get("run"))
    if _RUN.fullmatch(run) is None:  # what stands in a file makes no path unless it is what we wrote
        if part.optuna not in (None, *FILES):
            raise BadRequest(
                f"{folder} has no run id under resolved in its study.yaml, which storage.optuna "
                f"{part.optuna} needs: restore it from a copy"
            )
        return part, None, ""
    return part, run, "" if part.optuna in (None, *FILES) else f"{there.get('study')}-{run}/"
