"""Interrupts: the first Ctrl-C or SIGTERM ends the work in order, later ones do not disturb that.

While jobs are carried out, SIGTERM and SIGUSR1, with which SLURM warns, drain the work instead: running tasks
end within a grace period, and nothing new starts. What has not ended then is given up. So does a moment that
is given in advance.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

LOST = 3.0  # seconds after which a second interrupt is raised again if the first one was swallowed
PATIENCE = 10.0  # seconds after which another one ends the process at once


_DRAINING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupt(KeyboardInterrupt):
    """An interrupt of the work, from a signal.

    KeyboardInterrupt itself, where it passes through `exec` of a text, as in the making of a dataclass,
    leaves a mark in the interpreter of `python -m`: it then ends by SIGINT, whatever its exit code.
    """


class _Interrupts:
    """The time of the first interrupt, whether it was seen, and the depth of `terminable` blocks.

    `grace` has the seconds of a `drainable` block, `drained` the name of the signal that drains it, `asked`
    its time, and `given_up` tells that these seconds are over. `announce` is called when they begin, once.
    """

    first: float | None = None
    seen = False
    depth = 0
    grace: float | None = None
    announce: Callable[[float], None] | None = None
    drained: str | None = None
    asked = 0.0
    given_up = False


def interrupted() -> bool:
    """Tell whether the process was interrupted and is about to end."""
    return _Interrupts.first is not None


def draining() -> str | None:
    """Return why running tasks end and nothing new starts, in words; None if no signal asked for that."""
    return None if _Interrupts.drained is None else f"{_Interrupts.drained} was received"


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt again if a library swallowed the one that was raised in its callback."""
    if _Interrupts.grace is not None and threading.current_thread() is threading.main_thread():
        for number in _DRAINING:  # Tune has put a handler of its own in place
            if signal.getsignal(number) not in (_drain, signal.SIG_IGN):
                signal.signal(number, _drain)
    if interrupted() and not _Interrupts.seen:
        raise Interrupt


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
    before = {n: signal.signal(n, _interrupt if n == signal.SIGINT else _drain) for n in numbers}
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
                _Interrupts.first, _Interrupts.seen, _Interrupts.drained = None, False, None


@contextlib.contextmanager
def drainable(
    grace: float, announce: Callable[[float], None] = lambda ends: None, until: float | None = None
) -> Iterator[None]:
    """Drain the work of the block on the first SIGTERM or SIGUSR1: from then on `draining` says why.

    If the block has not ended after `grace` seconds, it is left. `announce` gets that moment, as Unix time,
    when they begin. They begin at the Unix time `until` as well, without a reason to give. The other signal
    interrupts it at once, as does the same one after `LOST` seconds.
    Outside the main thread, and where the system has no alarm, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    numbers = [number for number in _DRAINING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _drain) for number in numbers}
    clock = signal.signal(signal.SIGALRM, _alarm)
    _Interrupts.grace, _Interrupts.announce, _Interrupts.given_up = grace, announce, False
    if until is not None:
        signal.setitimer(signal.ITIMER_REAL, max(0.01, until - time.time()))
    try:
        yield
    except KeyboardInterrupt:
        if not _Interrupts.given_up:
            raise
        _Interrupts.first, _Interrupts.seen = None, False
    finally:
        _Interrupts.grace = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in {**before, signal.SIGALRM: clock}.items():
            signal.signal(number, handler)


def _drain(number: int, frame: object) -> None:
    name, now = signal.Signals(number).name, time.monotonic()
    if _Interrupts.drained is not None:
        # A scheduler may send its signal to a process and to its group; and after the block, the end is near.
        if _Interrupts.grace is not None and (name != _Interrupts.drained or now - _Interrupts.asked > LOST):
            _interrupt(number, frame)
        return
    if _Interrupts.grace is None:
        _interrupt(number, frame)
        return
    _Interrupts.drained, _Interrupts.asked = name, now
    _begin_grace(_Interrupts.grace)


def _begin_grace(grace: float) -> None:
    if (announce := _Interrupts.announce) is None:
        return  # it has begun
    _Interrupts.announce = None
    signal.setitimer(signal.ITIMER_REAL, max(0.01, grace))
    announce(time.time() + grace)


def _alarm(number: int, frame: object) -> None:
    if _Interrupts.grace is None:
        return
    if _Interrupts.announce is not None:  # the moment that was given in advance
        _begin_grace(_Interrupts.grace)
        return
    _Interrupts.first, _Interrupts.given_up = time.monotonic(), True
    raise Interrupt


def _interrupt(number: int, frame: object) -> None:
    passed = 0.0 if _Interrupts.first is None else time.monotonic() - _Interrupts.first
    if _Interrupts.first is None or (passed > LOST and not _Interrupts.seen):
        _Interrupts.first = _Interrupts.first or time.monotonic()
        raise Interrupt
    if passed > PATIENCE:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
