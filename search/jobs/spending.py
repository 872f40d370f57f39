"""Spending: how much of a study's budget is used. Once it is spent, running tasks end and nothing new starts.

`wall` limits the time of one command. GPU-hours are counted over all commands, in a file of the run folder.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from analysis.lake.run_folder import SPENT
from cl_core.aside import aside
from cl_core.errors import BadRequest
from search.jobs.interrupts import draining
from search.jobs.steering import refuse_constant
from spaces.study.budget import BudgetPart


class Spending:
    """The meter of one command. `gpu` is the number of GPUs of one run, `began` the start of the command."""

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
        self._gpu_seconds = gpu_seconds(folder)

    def begin(self, job: str) -> None:
        """Start the clock of a job."""
        self._since[job] = self._clock()

    def reach(self, job: str, end: bool = False) -> None:
        """Count the time of a job up to now; with `end` stop its clock."""
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
        """GPUs times hours so far, with running jobs."""
        now = self._clock()
        running = sum(now - since for since in self._since.values())
        return (self._gpu_seconds + self._gpu * running) / 3600

    @property
    def over(self) -> str | None:
        """The limit that is reached, or the signal that ends the command, in words; None while none is."""
        if (why := draining()) is not None:
            return why
        limits = self.limits
        if limits.wall_seconds is not None and self._clock() - self._began >= limits.wall_seconds:
            return f"budget.wall of {limits.wall} is spent"
        if limits.until_time is not None and self._clock() >= limits.until_time:
            return f"budget.until {limits.until} is reached"
        if limits.gpu_hours is not None and self.gpu_hours >= limits.gpu_hours:
            return f"budget.gpu_hours of {limits.gpu_hours:g} is spent"
        return None


def gpu_seconds(folder: Path) -> float:
    """Return the GPU-seconds that earlier commands spent in a folder. Raises BadRequest on a damaged file."""
    path = folder / SPENT
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)["gpu_seconds"]
        if type(value) not in (int, float) or not 0 <= value < math.inf:  # 1e999 is read as infinite
            raise TypeError
        return float(value)
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadRequest(f"{path} is damaged: write the GPU-seconds spent so far, or remove it") from None


def check_budget(limits: BudgetPart, gpu: float, begun: bool = False) -> None:
    """Raise BadRequest for a budget under which nothing could start, or that counts absent GPUs.

    With `begun` a moment in the past is allowed, because the study may be finished already.
    """
    if limits.gpu_hours is not None and not gpu:
        raise BadRequest(
            f"budget.gpu_hours is {limits.gpu_hours:g}, but no run holds a GPU here: set budget.wall"
        )
    if not begun and limits.until_time is not None and limits.until_time <= time.time():
        raise BadRequest(f"budget.until {limits.until} is over: name a later moment, or leave it out")
