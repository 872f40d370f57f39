"""The Optuna studies of a run folder, wherever they are stored.

`storage.optuna` in study.yaml decides: a journal or an SQLite file in the folder, or a file or a server that
several studies share. In a shared storage, the names of the Optuna studies begin with the study and its id.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage

from analysis.lake.run_folder import JOURNAL, SQLITE_FILE, STUDY
from cl_core.errors import BadRequest, ClSearchError, named_line
from search.storage.database import Database, damaged, while_it_answers
from search.storage.file_systems import network_type, own_place
from search.storage.journal import DamagedStudies, open_file, read_file
from search.storage.mirror import Mirror, readable
from spaces.study.storage import StoragePart
from spaces.study.storage_url import FILES, SQLITE, sqlite_path
from spaces.study.study_file import RESOLVED, existing_study

_RUN = re.compile(r"[0-9a-f]{12}")


class Studies:
    """The Optuna studies of one run folder: those in `storage` whose names begin with `prefix`."""

    def __init__(
        self,
        storage: BaseStorage,
        prefix: str = "",
        database: Database | None = None,
        mirror: Mirror | None = None,
        journal: Path | None = None,
    ) -> None:
        self.storage, self.prefix = storage, prefix
        self._database, self._mirror, self._journal = database, mirror, journal

    def __enter__(self) -> Studies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ids(self) -> dict[str, int]:
        """Return the names of the studies, without the prefix, with Optuna's ids."""
        return {
            study.study_name.removeprefix(self.prefix): study._study_id
            for study in self.storage.get_all_studies()
            if study.study_name.startswith(self.prefix)
        }

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Name the studies in the error of a block that finds their rows not as they were written.

        Raises DamagedStudies for a journal, BadRequest for a database.
        """
        try:
            yield
        except ClSearchError:
            raise
        except (LookupError, TypeError, ValueError, DuplicatedStudyError) as error:
            if self._database is not None:
                raise damaged(self._database.place, named_line(error)) from error
            assert self._journal is not None
            raise DamagedStudies(self._journal, named_line(error)) from error

    def close(self) -> None:
        """Close connections, and write the last copy of a mirror. Raises OSError."""
        if self._database is not None:
            self._database.close()
        if self._mirror is not None:
            mirror, self._mirror = self._mirror, None
            mirror.close()


def open_studies(folder: Path, part: StoragePart | None = None) -> Studies:
    """Open the studies to work on, and mend what a crash left. The caller holds the lock of the folder.

    `part` is the study's storage, with its password if it has one; the default is that of study.yaml. Raises
    DamagedStudies if a journal is damaged, BadRequest if the studies cannot be reached.
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
            return Studies(open_file(path), mirror=mirror, journal=path)
        database = Database(SQLITE + str(path.absolute()), place=place)
        assert database.optuna is not None
        return Studies(database.optuna, database=database, mirror=mirror)
    except BaseException:
        if mirror is not None:
            mirror.close()
        raise


@contextlib.contextmanager
def read_studies(folder: Path, part: StoragePart | None = None) -> Iterator[Studies | None]:
    """Provide the studies to read; None if there are none. Changes nothing.

    Raises BadRequest if they are damaged or cannot be reached, LostDatabase if they no longer answer.
    """
    studies = _open_to_read(folder, part)
    if studies is None:
        yield None
        return
    with studies, studies.checked(), while_it_answers("of this study", part.password if part else None):
        yield studies


def _open_to_read(folder: Path, part: StoragePart | None) -> Studies | None:
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
            return None if journal is None else Studies(journal, journal=path)
        database = Database(SQLITE + str(path.absolute()), place=place, read_only=True)
    else:
        database = Database(place, part.password, read_only=True)
    if database.optuna is None:
        database.close()
        return None
    return Studies(database.optuna, prefix, database)


def check_storage(part: StoragePart, folder: Path) -> None:
    """Raise BadRequest unless Optuna's studies can be stored at `storage.optuna`. Nothing is made."""
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


def _place(folder: Path, part: StoragePart | None) -> tuple[StoragePart, str | None, str]:
    """Return the storage, the run folder's id, and the prefix of its Optuna studies."""
    there: dict[str, Any] = existing_study(folder / STUDY) or {}
    stored = there.get("storage") or {}
    if part is None:
        part = StoragePart(optuna=stored.get("optuna")) if isinstance(stored, dict) else StoragePart()
    run = str((there.get(RESOLVED) or {}).get("run"))
    if _RUN.fullmatch(run) is None:  # never build a path from an id that we did not write ourselves
        if part.optuna not in (None, *FILES):
            raise BadRequest(
                f"{folder} has no run id under resolved in its study.yaml, which storage.optuna "
                f"{part.optuna} needs: restore it from a copy"
            )
        return part, None, ""
    return part, run, "" if part.optuna in (None, *FILES) else f"{there.get('study')}-{run}/"
