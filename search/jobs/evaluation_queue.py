"""The queue of an evaluation: its runs in order, base checkpoints first; safe to interrupt.

The tables alone hold the state. A run that has its row there has ended and is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS
from analysis.lake.run_rows import run_rows
from cl_core.images.dataset import Data
from search.jobs.base_jobs import BaseJobs
from search.jobs.progress import CellProgress
from search.jobs.run_list import RunList
from search.jobs.spending import Spending
from search.worker.job import Answer, Job
from spaces.resolved.run_spec import RunSpec
from spaces.study.budget import BudgetPart


class EvaluationQueue:
    """Hands out `specs` in order, without those that have ended. The caller holds the lock of the folder.

    `data` gives the images of a run. With `retry_failed`, failed runs are handed out again. With `bases` off
    there are no base jobs: the first run that needs a base checkpoint trains it.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        folder: Path,
        data: Callable[[RunSpec], Data],
        *,
        retry_failed: bool = False,
        bases: bool = True,
        checkpoints: Path | None = None,
        spending: Spending | None = None,
    ) -> None:
        self.runs = RunList(specs, run_rows(folder), retry_failed)
        self._bases = BaseJobs(checkpoints or folder / CHECKPOINTS, data, bases)
        self._spending = spending or Spending(BudgetPart(), folder)

    def next(self) -> Job | None:
        """Return the next job; None if nothing can start now."""
        if self.halted:
            return None
        for spec in self.runs.pending:
            if (job := self._bases.job(spec)) is not None:
                if job.kind == "run":
                    self.runs.begin(spec.run)
                self._spending.begin(job.id)
                return job
        return None

    def report(self, run: str, task: int, increments: float | None) -> bool:
        """Count the time of a run; none is stopped."""
        self._spending.reach(run)
        return False

    def done(self, answer: Answer) -> None:
        """End a job. One that is not running is ignored."""
        self._spending.reach(answer.job, end=True)
        if not self._bases.end(answer.job):
            self.runs.end(answer.job, answer.status)

    def hand_back(self, job: str) -> None:
        """Pause a run here. The next command continues it from its last resume checkpoint."""
        self._spending.reach(job, end=True)
        self.runs.hand_back(job)

    @property
    def halted(self) -> bool:
        """Tell whether the budget is spent: running tasks end, nothing else starts."""
        return self._spending.over is not None

    @property
    def finished(self) -> bool:
        """Tell whether nothing runs and nothing can start any more."""
        if self.runs.open or self._bases.running:
            return False
        return self.halted or not self.runs.pending

    @property
    def left(self) -> str | None:
        """The reason why a finished queue has work left; None if all is done."""
        return self._spending.over if self.runs.pending else None

    def progress(self) -> list[CellProgress]:
        """Return the progress of every cell, counted in runs. No value is shown before all have ended."""
        out = []
        for cell in dict.fromkeys(spec.cell for spec in self.runs.specs.values()):
            runs = [run for run, spec in self.runs.specs.items() if spec.cell == cell]
            states = [self.runs.ended.get(run, "") for run in runs]
            running = sum(run in self.runs.open for run in runs)
            out.append(
                CellProgress(
                    cell=cell,
                    budget=len(runs),
                    started=running + sum(map(bool, states)),
                    running=running,
                    completed=states.count("completed"),
                    stopped=states.count("stopped"),
                    failed=states.count("failed"),
                    best=None,
                )
            )
        return out
