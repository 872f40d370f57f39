"""Storage that takes no data."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_STORAGE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
}
ROOM = 1_000_000  # bytes that a folder must be able to take before work begins there


def is_storage(error: BaseException) -> bool:
    """Tell whether the storage failed, not the run: every run would fail, so the study has to end."""
    return isinstance(error, OSError) and error.errno in _STORAGE


def storage_trouble(folder: Path, room: int = ROOM) -> str | None:
    """Return why `room` bytes cannot be written in `folder`, in one line; None if they can."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"\0" * room)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        # On a full disk an empty file may be left; its removal needs no space.
        if probe.exists():
            probe.unlink(missing_ok=True)
    return None
