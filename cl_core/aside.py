"""Write files aside and rename them: a reader sees the old file or the new one, never a part.

A file is synced to the disk before its rename, and its folder after it. If the machine loses its power, the
old file or the new one is there. A killed process leaves its file aside behind; `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

STALE = 60.0  # seconds without a change after which a file aside belongs to no living writer
_NAME = re.compile(r"\..+\.[0-9a-f]{12}")


@contextlib.contextmanager
def aside(path: Path, place: Path | None = None) -> Iterator[Path]:
    """Yield a hidden path to write to, which replaces `path` when the block ends without an error.

    It is beside `path`, or in the folder `place` on the same disk. Missing folders are made. After an error
    `path` is unchanged. The hidden name is random, so writers on several nodes do not collide. The file gets
    the permissions of a new file in its folder, whichever library writes it.
    """
    place = path.parent if place is None else place
    for folder in (path.parent, place):
        folder.mkdir(parents=True, exist_ok=True)
    hidden = place / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        hidden.touch()
        usual = hidden.stat().st_mode
        yield hidden
        if hidden.stat().st_mode != usual:  # safetensors leaves 0600
            hidden.chmod(stat.S_IMODE(usual))
        _sync(hidden)
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems do not sync a folder
        _sync(path.parent)


def sweep(folder: Path, older: float = STALE) -> None:
    """Remove the files aside in `folder` that have not changed for `older` seconds."""
    for path in folder.glob(".*"):
        # Another process may write here, or sweep as well.
        with contextlib.suppress(OSError):
            if _NAME.fullmatch(path.name) and time.time() - path.stat().st_mtime >= older:
                path.unlink()


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
