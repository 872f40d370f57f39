"""What a run has spent of its study's budget. When it is spent, nothing more is asked and running tasks end.

`wall` is the time of one command; GPU-hours are counted over all commands, in a file of the run's folder.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from cl_core.aside import aside
from cl_core.errors import BadRequest
from search.jobs.steering import no_number
from spaces.study.budget import BudgetPart

SPENT = "spent.json"


class Budget:
    """The meter of one command. `gpu` is what one run holds; `began` the time at which the command did."""

    def __init__(
        self,
        limits: BudgetPart,
        folder: Path,
        gpu: float = 0.0,
        began: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits, self._clock, self._gpu = limits, clock, gpu
        self._path = folder / SPENT
        self._began = clock() if began is None else began
        self._since: dict[str, float] = {}  # job -> up to when its time is counted
        self._gpu_seconds = spent(folder)

    def begin(self, job: str) -> None:
        """A job holds its share from now on."""
        self._since[job] = self._clock()

    def reach(self, job: str, end: bool = False) -> None:
        """A job has ended a task, or has ended: count its time."""
        if job not in self._since:
            return
        now = self._clock()
        self._gpu_seconds += self._gpu * (now - self._since[job])
        self._since[job] = now
        if end:
            del self._since[job]
        if self._gpu:
            with aside(self._path) as hidden:
                hidden.write_text(json.dumps({"gpu_seconds": round(self._gpu_seconds, 3)}) + "\n")

    @property
    def gpu_hours(self) -> float:
        """GPUs times hours so far, what is under way included."""
        now = self._clock()
        under_way = sum(now - since for since in self._since.values())
        return (self._gpu_seconds + self._gpu * under_way) / 3600

    @property
    def over(self) -> str | None:
        """Which limit is reached, in words; None while there is something left."""
        limits = self.limits
        if limits.wall_seconds is not None and self._clock() - self._began >= limits.wall_seconds:
            return f"budget.wall of {limits.wall} is spent"
        if limits.until_time is not None and self._clock() >= limits.until_time:
            return f"budget.until {limits.until} is reached"
        if limits.gpu_hours is not None and self.gpu_hours >= limits.gpu_hours:
            return f"budget.gpu_hours of {limits.gpu_hours:g} is spent"
        return None


def spent(folder: Path) -> float:
    """GPU-seconds that earlier commands on a folder have spent. Raises BadRequest when that is damaged."""
    path = folder / SPENT
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)["gpu_seconds"]
        if type(value) not in (int, float) or not 0 <= value < math.inf:  # 1e999 is read as infinite
            raise TypeError
        return float(value)
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadRequest(f"{path} is damaged: write the GPU-seconds spent so far, or remove it") from None


def check_budget(limits: BudgetPart, gpu: float, begun: bool = False) -> None:
    """Raise BadRequest for a budget under which nothing could start, or that counts what is not there.

    A run that has begun may be finished when its moment is over: then there is nothing to do, which is fine.
    """
    if limits.gpu_hours is not None and not gpu:
        raise BadRequest(
            f"budget.gpu_hours is {limits.gpu_hours:g}, but no run holds a GPU here: set budget.wall"
        )
    if not begun and limits.until_time is not None and limits.until_time <= time.time():
        raise BadRequest(f"budget.until {limits.until} is over: name a later moment, or leave it out")
