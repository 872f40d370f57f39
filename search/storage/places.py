"""Places that a command needs, checked before work: local folders, and the folder of Ray's files."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from cl_core.errors import BadRequest
from search.storage.trouble import ROOM, storage_trouble

# A URL. `Path` folds the two slashes of a URL; a single letter before the colon is a drive of Windows.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_SOCKET = 107 if sys.platform.startswith("linux") else 103  # the longest path of a socket, in bytes
_IN_SESSION = len("/session_2027-01-31_18-00-00_000000_4194304/sockets/plasma_store")
SHORT = Path("/tmp")  # where Ray's files go when the folder for temporary files has too long a path
RAY_ROOM = 5_000_000  # bytes; Ray writes about one in its first minute


def is_url(given: object) -> bool:
    """Tell whether `given` is a URL, such as s3://bucket/runs/x."""
    return _REMOTE.match(str(given)) is not None


def local_folder(given: str | Path, what: str = "a path") -> Path:
    """Return `given` as a path, with ~ expanded. Raises BadRequest for a URL."""
    if is_url(given):
        shown = re.sub(":/+", "://", str(given), count=1)
        raise BadRequest(
            f"{what} must be local or mounted: {shown!r} is a URL. Only run folders and storage.checkpoints "
            "may be in an object store: name a local path."
        )
    return Path(given).expanduser()


def check_writable(folder: Path, what: str) -> None:
    """Raise BadRequest unless `folder`, or the nearest one above it that exists, takes a megabyte."""
    place = local_folder(folder, what).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise BadRequest(f"{what} needs a folder, and {place} is a file: name another place")
    try:
        # Permission bits say little to an administrator, and nothing of what a file system allows.
        with tempfile.TemporaryFile(dir=place) as file:  # it has no name where the system can do without
            file.write(bytes(ROOM))
            file.flush()
    except OSError as error:
        trouble = error.strerror or type(error).__name__
        raise BadRequest(f"{what} must be writable, and {place} is not ({trouble}): name another") from error


def ray_temporary() -> Path:
    """Return the folder for Ray's session: RAY_TMPDIR, TMPDIR or /tmp, in Ray's own order of choice.

    If the paths of its sockets would become too long, it is /tmp. Raises BadRequest if it cannot be written.
    """
    chosen = Path(_temporary(), "ray").absolute()
    if too_long(chosen):
        chosen = SHORT / "ray"
    place = chosen
    while not place.exists():
        place = place.parent
    trouble = storage_trouble(place, RAY_ROOM)
    if trouble is not None:
        raise BadRequest(
            f"Ray keeps its files in {chosen} while it runs, and {place} cannot take them ({trouble}): make "
            "room there, or set RAY_TMPDIR to another folder"
        )
    return chosen


def ray_elsewhere() -> list[str]:
    """Return a note if Ray's files go to another place than the environment says, because of a long path."""
    chosen = Path(_temporary(), "ray").absolute()
    if not too_long(chosen):
        return []
    return [
        f"Ray's files go to {SHORT / 'ray'}: the path of {chosen.parent} is too long for its sockets "
        f"({_SOCKET - _IN_SESSION - len('/ray')} bytes at most)"
    ]


def too_long(folder: Path) -> bool:
    """Tell whether a session of Ray in `folder` would have sockets whose paths the system refuses."""
    return len(os.fsencode(folder)) + _IN_SESSION > _SOCKET


def _temporary() -> str:
    linux = os.environ.get("TMPDIR") if sys.platform.startswith("linux") else None
    return os.environ.get("RAY_TMPDIR") or linux or str(SHORT)
