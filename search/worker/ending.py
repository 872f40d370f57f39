"""The end of running work: a small file in the run folder, which the driver writes when its work has to end.

Workers look for it at the ends of epochs, so that a long task is saved and left in time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path

from analysis.lake.run_folder import ENDS
from cl_core.aside import aside
from search.remote.copies import remote_at
from search.remote.object_store import StoreError

_EVERY = {False: 1.0, True: 5.0}  # seconds between two looks, here and in an object store


def announce_end(folder: Path, ends: float) -> None:
    """Write the Unix time at which running work is given up. An error of the file system is ignored."""
    with contextlib.suppress(OSError), aside(folder / ENDS) as hidden:
        hidden.write_text(f"{ends:.3f}\n", encoding="utf-8")


def withdraw_end(folder: Path) -> None:
    """Remove the file: the next work in the folder has its own end."""
    with contextlib.suppress(OSError):
        (folder / ENDS).unlink(missing_ok=True)


def announced_end(folder: Path, far: bool = False) -> Callable[[], float | None]:
    """Return what gives the Unix time at which the driver gives running work up; None while there is none.

    With `far` the driver is on another machine, and the folder a copy of one in an object store.
    """
    looked, found = -math.inf, None

    def ends() -> float | None:
        nonlocal looked, found
        if time.monotonic() - looked >= _EVERY[far]:
            found = _read(folder, far)
            looked = time.monotonic()
        return found

    return ends


def _read(folder: Path, far: bool) -> float | None:
    try:
        if not far:
            return float((folder / ENDS).read_text(encoding="utf-8"))
        remote = remote_at(folder)
        there = None if remote is None else remote.store.get(ENDS)
        return None if there is None else float(there[0])
    except (OSError, StoreError, ValueError):
        return None
