"""Interrupts: the first Ctrl-C or SIGTERM ends the work in order, further ones do not disturb it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

LOST = 3.0  # seconds after an interrupt from which a further one is raised again if nobody has seen the first
PATIENCE = 10.0  # and from which it ends the process at once


class _Interrupts:
    """When the process was first told to end, whether that was seen, and the depth of `terminable` blocks."""

    first: float | None = None
    seen = False
    depth = 0


def interrupted() -> bool:
    """Whether the process was told to end, and is about to."""
    return _Interrupts.first is not None


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt again where a library swallowed the one that was raised in its callback."""
    if interrupted() and not _Interrupts.seen:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminable(ending: bool = False) -> Iterator[None]:
    """Raise KeyboardInterrupt, once, on the first SIGINT (Ctrl-C) or SIGTERM (schedulers) in the block.

    Further ones are ignored, so that what ends in order is not disturbed; when that has taken `PATIENCE`
    seconds, another one ends the process at once. With `ending` the process ends after the block, and once
    interrupted it goes on ignoring them. Blocks may lie in each other; outside the main thread, and for a
    signal that the process was started to ignore, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    _Interrupts.depth += 1
    try:
        yield
    except KeyboardInterrupt:
        _Interrupts.seen = True
        raise
    finally:
        _Interrupts.depth -= 1
        if not (ending and interrupted()):
            for number, handler in before.items():
                signal.signal(number, handler)
            if not _Interrupts.depth:
                _Interrupts.first, _Interrupts.seen = None, False


def _interrupt(number: int, frame: object) -> None:
    passed = 0.0 if _Interrupts.first is None else time.monotonic() - _Interrupts.first
    if _Interrupts.first is None or (passed > LOST and not _Interrupts.seen):
        _Interrupts.first = _Interrupts.first or time.monotonic()
        raise KeyboardInterrupt
    if passed > PATIENCE:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
