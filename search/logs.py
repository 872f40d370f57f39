"""What a run prints: one text file per trial under <run>/logs, with the full traceback of a failure."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cl_core.errors import BadRequest

_TRIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]*")


def checked_trial(trial: str) -> str:
    """`trial` itself. Raises BadRequest for a name that no study gives, such as one that leaves a folder."""
    if not _TRIAL.fullmatch(trial) or ".." in trial:
        raise BadRequest(
            f"{trial!r} is no trial's name; `cl-search status DIR` lists them, e.g. lwf@B0-5tasks/0"
        )
    return trial


def log_file(folder: Path, trial: str) -> Path:
    """Where the output of `trial` is kept in the run's folder. Raises BadRequest for a name that is none."""
    name = checked_trial(trial).replace("/", "--").replace(":", "-")
    return folder / "logs" / f"{name}.log"


class _Log(io.TextIOBase):
    """Text into a binary file, as far as the disk takes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text.encode("utf-8", "replace"))
        return len(text)

    def fileno(self) -> int:
        return self._file.fileno()

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def recorded(path: Path | None) -> Iterator[None]:
    """Append what is printed to `path` while the block runs; nothing is redirected without a path."""
    if path is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        # A log that cannot be written must not be what a run fails of.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            log = _Log(stack.enter_context(path.open("ab", buffering=0)))
            stack.enter_context(contextlib.redirect_stdout(log))
            stack.enter_context(contextlib.redirect_stderr(log))
        yield


def stamp(text: str) -> None:
    """Print `text` after the time of day."""
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}", flush=True)
