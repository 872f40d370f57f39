"""The end of an orphan: a worker whose raylet has died would train on for as long as its task lasts.

A raylet that is alive ends the workers of a driver that has died, and dies itself when its cluster's head has
been gone for a minute. So a worker has to watch its raylet alone.
"""

from __future__ import annotations

import os
import threading
import time

WATCH_EVERY = 5.0  # seconds between two looks
ORPHANED = 70  # exit status


def end_with_raylet() -> None:
    """End this process soon after the raylet that started it. A thread of its own looks after that."""
    pid = os.environ.get("RAY_RAYLET_PID", "")
    if pid.isdecimal() and _lives(int(pid)):  # its number may be that of another container
        child = os.getppid() == int(pid)
        threading.Thread(target=_watch, args=(int(pid), child), name="raylet-watch", daemon=True).start()


def _watch(pid: int, child: bool) -> None:
    # A parent that has died, and that nobody has waited for, still has its number.
    while os.getppid() == pid if child else _lives(pid):
        time.sleep(WATCH_EVERY)
    os._exit(ORPHANED)  # nobody is left who could take an answer; finished tasks are on the disk


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user: there is such a process
        return True
    return True
