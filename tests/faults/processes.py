"""Processes below one that was started here, as Linux lists them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, the nearest first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                int(stat.parent.name)
            )
    found, todo = [], [pid]
    while todo:
        below = sorted(children.get(todo.pop(0), ()))
        found += below
        todo += below
    return found


def named(pid: int, *texts: str) -> list[int]:
    """Return the processes below `pid` whose command line has one of the texts."""
    return [each for each in descendants(pid) if any(text in command(each) for text in texts)]


def command(pid: int) -> str:
    """Return the command line of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_tree(pid: int) -> None:
    """Kill a process and all below it."""
    send([pid, *descendants(pid)], signal.SIGKILL)
