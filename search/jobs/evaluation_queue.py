"""The runs of an evaluation: which is next, which have ended. Base checkpoints first; safe to interrupt.

What is true lies in the tables alone: a run that has its row there has ended and is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.jobs.progress import CellProgress
from search.jobs.queue import Bases, Job
from search.jobs.spending import Budget
from search.lake.writer import recorded
from spaces.resolved.run_spec import RunSpec
from spaces.study.budget import BudgetPart

if TYPE_CHECKING:
    from cl_core.images.dataset import Data


class Evaluation:
    """Hands out `specs` in their order, but for those that have ended. The caller holds the folder's lock.

    `data` gives the images of a run. With `retry_failed` runs that failed are handed out again. `bases` off
    hands out no base checkpoints: whoever comes first trains it.
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
        budget: Budget | None = None,
    ) -> None:
        self._specs = {spec.run: spec for spec in specs}
        self._bases = Bases(checkpoints or folder / "checkpoints", data, bases)
        self._budget = budget or Budget(BudgetPart(), folder)
        self._open: set[str] = set()
        self._ended: dict[str, str] = {}  # trial -> status
        rows = recorded(folder)
        for trial, spec in self._specs.items():
            row = rows.get(trial)
            if (
                row is None or row["trial_digest"] != spec.trial_digest
            ):  # published defaults may change with a version
                continue
            if row["status"] != "failed" or not retry_failed:
                self._ended[trial] = str(row["status"])

    @property
    def pending(self) -> list[RunSpec]:
        """The runs that have still to start."""
        return [s for t, s in self._specs.items() if t not in self._ended and t not in self._open]

    def next(self) -> Job | None:
        """The next job, or None when nothing can start now."""
        if self.halted:
            return None
        for spec in self.pending:
            base = self._bases.awaited(spec)
            if base is None:
                self._open.add(spec.run)
                self._budget.begin(spec.run)
                return Job("run", spec.run, spec)
            if self._bases.begin(base):
                self._budget.begin(base)
                return Job("base", base, spec)
        return None

    def report(self, trial: str, task: int, increments: float | None) -> bool:
        """Take in where a run stands; none is stopped."""
        self._budget.reach(trial)
        return False

    def done(
        self,
        job: str,
        status: str,
        values: Sequence[float | None] = (),
        increments: float | None = None,
        error: str | None = None,
    ) -> None:
        """A job has ended; one that is not under way is ignored."""
        self._budget.reach(job, end=True)
        if self._bases.end(job) or job not in self._open:
            return
        self._open.remove(job)
        self._ended[job] = status

    def hand_back(self, job: str) -> None:
        """A run goes no further now; the next command takes it up at its last boundary."""
        self._budget.reach(job, end=True)
        self._open.discard(job)

    @property
    def halted(self) -> bool:
        """Whether the budget is spent: running tasks end, nothing else starts."""
        return self._budget.over is not None

    @property
    def finished(self) -> bool:
        """Whether nothing is under way and nothing can start any more."""
        if self._open or self._bases.under_way:
            return False
        return self.halted or not self.pending

    @property
    def left(self) -> str | None:
        """Why there is something left to do though this is `finished`; None where all is done."""
        return self._budget.over if self.pending else None

    def progress(self) -> list[CellProgress]:
        """Where every cell stands, counted in runs; no value is shown before all have ended."""
        out = []
        for cell in dict.fromkeys(spec.cell for spec in self._specs.values()):
            trials = [trial for trial, spec in self._specs.items() if spec.cell == cell]
            states = [self._ended.get(trial, "") for trial in trials]
            running = sum(trial in self._open for trial in trials)
            out.append(
                CellProgress(
                    cell=cell,
                    budget=len(trials),
                    asked=running + sum(map(bool, states)),
                    running=running,
                    completed=states.count("completed"),
                    stopped=states.count("stopped"),
                    failed=states.count("failed"),
                    best=None,
                )
            )
        return out
