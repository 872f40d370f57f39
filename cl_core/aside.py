"""Files are written aside and renamed: a reader sees the old one or the new one, never a part.

Text is on the disk before it has its name, and the name before `aside` returns, so that a machine which
loses its power keeps the old file or the new one. A process that is killed leaves its file aside behind;
`sweep` removes it.
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

STALE = 60.0  # seconds after its last change from which a file aside counts as left by a killed writer
_NAME = re.compile(r"\..+\.[0-9a-f]{12}")


@contextlib.contextmanager
def aside(path: Path, place: Path | None = None) -> Iterator[Path]:
    """A hidden path to write to; it takes the place of `path` when the block ends well.

    It lies beside `path`, or in the folder `place`, on the same disk. Both folders are made where they are
    missing. What the block or the disk raises goes through, and `path` stays as it was. The name is drawn,
    so that writers on several nodes do not meet. The file gets the permissions that any new file in the
    folder has, whatever the library that writes it prefers.
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
    """Remove the files aside in `folder` that nobody has changed for `older` seconds."""
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
