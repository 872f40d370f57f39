"""What went wrong, in one line; whether it was the storage; and being told to end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator
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


def first_line(error: BaseException) -> str:
    """One line that names an error."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def is_storage(error: BaseException) -> bool:
    """Whether the storage failed, not the run: every other run would fail alike, so the study has to end."""
    return isinstance(error, OSError) and error.errno in _STORAGE


def storage_trouble(folder: Path) -> str | None:
    """Why nothing can be written in `folder`, in one line; None when a megabyte can."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"\0" * 1_000_000)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        # On a full disk an empty file may stand; its removal needs no space.
        if probe.exists():
            probe.unlink(missing_ok=True)
    return None


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, as schedulers send it, raises KeyboardInterrupt while the block runs, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
