"""Files are written aside and renamed: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when the block ends well.

    The folder is made where it is missing. What the block or the disk raises goes through, and `path` stays
    as it was. The name is drawn, so that writers on several nodes do not meet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        yield hidden
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
