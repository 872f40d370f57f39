"""Files are written aside and renamed: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when the block ends well.

    The folder is made where it is missing. What the block or the disk raises goes through, and `path` stays
    as it was. The name is drawn, so that writers on several nodes do not meet. The file gets the permissions
    that any new file in the folder has, whatever the library that writes it prefers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        hidden.touch()
        usual = hidden.stat().st_mode
        yield hidden
        if hidden.stat().st_mode != usual:  # safetensors leaves 0600
            hidden.chmod(stat.S_IMODE(usual))
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
