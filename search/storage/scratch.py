"""Scratch folders: removed at the end of the command, or by the next one if it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "cl-search-work-", ".lock"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Provide a folder below TMPDIR for the block.

    A lock in it, which the kernel releases when its holder dies, tells others that it is in use.
    """
    _sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    folder = made.with_name(made.name[1:])
    with FileLock(made / _LOCK) as lock:
        made.rename(folder)  # no other command removes it before it is locked
        try:
            yield folder
        finally:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of this user's killed commands."""
    for folder in place.glob(f"{_PREFIX}*"):
        # Another command may end, or sweep, at the same time.
        with contextlib.suppress(OSError, Timeout):
            mine = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            if mine and not folder.is_symlink() and (folder / _LOCK).exists():
                with FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)
