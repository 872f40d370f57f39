"""The lock of a run folder: one command works in it at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from analysis.lake.run_folder import LOCK
from cl_core.errors import BadRequest


def acquire(folder: Path) -> FileLock:
    """Take the lock of a run folder, until `release`. It is reentrant within a thread.

    Raises BadRequest if another command holds it, or if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One object a path and process: the holder of the lock may take it again.
        lock = FileLock(str(folder.absolute() / LOCK), is_singleton=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise BadRequest(
            f"another run is working in {folder}: wait for it or end it, or use another --out"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadRequest(
            f"the run folder must be writable: {folder}: {reason}. Choose another with --out."
        ) from None
    return lock


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder while the block runs; see `acquire`."""
    lock = acquire(folder)
    try:
        yield
    finally:
        lock.release()


def is_active(folder: Path) -> bool:
    """Tell whether a command of this machine works in the folder now: it holds the lock."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(str(folder.absolute() / LOCK), blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False
