"""Logs: one text file a run below `logs/`, with all it printed and the traceback of a failure."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, TextIO

from cl_core.errors import BadRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]*")


def checked_run(run: str) -> str:
    """Return `run` itself. Raises BadRequest for a name that no study gives, such as one with `..`."""
    if not _NAME.fullmatch(run) or ".." in run:
        raise BadRequest(
            f"{run!r} is not the name of a run, such as lwf@B0-5tasks/0: `cl-search status DIR` lists them"
        )
    return run


def named_run(given: str, known: Iterable[str]) -> str:
    """Return the run that `given` names: its whole name, or a beginning that only one run has.

    Raises BadRequest if no run has it, with the nearest name, or if several runs have it.
    """
    names = {_plain(name): name for name in known}
    wanted = _plain(checked_run(given).rstrip("/"))
    if wanted in names:
        return names[wanted]
    for beginning in (f"{wanted}/", wanted):  # whole parts of a name first: /3 is not the beginning of /30
        found = sorted(name for key, name in names.items() if key.startswith(beginning))
        if len(found) == 1:
            return found[0]
        if found:
            raise BadRequest(f"{given!r} is the beginning of {len(found)} runs ({_some(found)}): name one")
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean {names[near[0]]!r}? " if near else ""
    raise BadRequest(f"unknown run {given!r}: {hint}(runs here: {_some(sorted(names.values()))})")


def _plain(name: str) -> str:
    """Return a run's name as its files have it, where the colon of a class order is a dash."""
    return name.replace(":", "-")


def _some(names: Sequence[str]) -> str:
    more = f", ... {len(names)} in all" if len(names) > 6 else ""
    return (", ".join(names[:6]) or "none") + more


class _Log(io.TextIOBase):
    """Text written to a binary file; an error of the disk is ignored."""

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


class _Routed(io.TextIOBase):
    """Standard output while logs are open: what a run prints goes to its log, all else where it went."""

    def __init__(self, before: TextIO) -> None:
        self.before = before

    def _target(self) -> TextIO | _Log:
        return _LOG.get() or self.before

    def write(self, text: str) -> int:
        return self._target().write(text)

    def flush(self) -> None:
        self._target().flush()

    def fileno(self) -> int:
        return self._target().fileno()

    def writable(self) -> bool:
        return True


_LOG: ContextVar[_Log | None] = ContextVar("log", default=None)  # of the run that this thread trains
_OPEN: list[tuple[TextIO, TextIO]] = []  # standard output and errors as they were, for each open log
_ROUTING = threading.Lock()


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Append all output of this thread to `path` while the block runs."""
    with contextlib.ExitStack() as stack:
        # A log that cannot be written is no reason for a run to fail.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            log = _Log(stack.enter_context(path.open("ab", buffering=0)))
            stack.enter_context(_routed())
            stack.callback(_LOG.reset, _LOG.set(log))
        yield


@contextlib.contextmanager
def _routed() -> Iterator[None]:
    with _ROUTING:
        _OPEN.append(_OPEN[0] if _OPEN else (sys.stdout, sys.stderr))
        if len(_OPEN) == 1:
            sys.stdout, sys.stderr = _Routed(sys.stdout), _Routed(sys.stderr)
    try:
        yield
    finally:
        with _ROUTING:
            before = _OPEN.pop()
            if not _OPEN:
                sys.stdout, sys.stderr = before


def stamp(text: str) -> None:
    """Print `text` after the time of day."""
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}", flush=True)
