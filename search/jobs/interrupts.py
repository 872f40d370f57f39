"""Interrupts: the first Ctrl-C or SIGTERM ends the work in order, later ones do not disturb that."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

LOST = 3.0  # seconds after which a second interrupt is raised again if the first one was swallowed
PATIENCE = 10.0  # seconds after which another one ends the process at once


class _Interrupts:
    """The time of the first interrupt, whether it was seen, and the depth of `terminable` blocks."""

    first: float | None = None
    seen = False
    depth = 0


def interrupted() -> bool:
    """Tell whether the process was interrupted and is about to end."""
    return _Interrupts.first is not None


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt again if a library swallowed the one that was raised in its callback."""
    if interrupted() and not _Interrupts.seen:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminable(ending: bool = False) -> Iterator[None]:
    """Raise KeyboardInterrupt, once, on the first SIGINT (Ctrl-C) or SIGTERM (schedulers) in the block.

    Further ones are ignored, so that the work can end in order. After `PATIENCE` seconds another one ends the
    process at once. With `ending` the process ends after the block, and an interrupted one keeps ignoring
    them. Blocks may be nested. Outside the main thread, and for a signal that the process was started to
    ignore, nothing changes.
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
