"""The contract of a queue: which job comes next, and what its answers mean.

`search.cells.search_queue` fulfils it for a search, `search.jobs.evaluation_queue` for an evaluation.
"""

from __future__ import annotations

from typing import Protocol

from search.jobs.progress import CellProgress
from search.worker.job import Answer, Job


class JobQueue(Protocol):
    """The jobs of one command."""

    def next(self) -> Job | None:
        """Return the next job; None if nothing can start now."""

    def report(self, run: str, task: int, increments: float | None) -> bool:
        """Take the accuracy over the increments after a task; return True if the run should stop there."""

    def done(self, answer: Answer) -> None:
        """Take the last answer of a job: completed, stopped or failed. One that is not running is ignored."""

    def hand_back(self, job: str) -> None:
        """Pause a run here. The next command continues it from its last resume checkpoint."""

    def progress(self) -> list[CellProgress]:
        """Return the progress of every cell."""

    @property
    def finished(self) -> bool:
        """Tell whether nothing runs and nothing can start any more."""

    @property
    def halted(self) -> bool:
        """Tell whether running tasks end and nothing else starts."""

    @property
    def left(self) -> str | None:
        """The reason why a finished queue has work left; None if all is done."""
