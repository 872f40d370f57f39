"""What one command does with its jobs: hand out jobs, take answers in, see that every row is written.

The session lives in the driver. Workers write the rows of what they train; the row of a run that is stopped
or lost is written here, from the rows on disk, because its worker may be gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cl_core.errors import ClSearchError
from cl_core.nets.network import NETS
from cl_core.own_code import check
from search.jobs.interrupts import raise_interrupt
from search.worker.worker import NO_STORAGE, Answer, Order, end_run

if TYPE_CHECKING:
    from search.jobs.queue import Jobs


class StorageError(ClSearchError):
    """The run's folder cannot be written any more; the command ends and can be given again."""


class Session:
    """The jobs of one command, be it a search or an evaluation. `watch` is called after every change."""

    def __init__(
        self,
        jobs: Jobs,
        methods: Sequence[str],
        folder: Path,
        checkpoints: Path,
        threads: int,
        share: bool = True,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.jobs = jobs
        self.methods = list(methods)
        self.folder = folder.absolute()
        self.checkpoints = checkpoints.absolute()
        self.threads = threads
        self.share = share
        self.watch = watch
        self.aborted: Exception | None = None  # why no further job may start
        self.trouble: dict[str, str] = {}  # job -> why its worker did not answer
        self._open: dict[str, Order] = {}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.jobs.finished

    def is_open(self, job: str) -> bool:
        """Whether a job is handed out and not yet ended."""
        return job in self._open

    def next(self) -> Order | None:
        """The next job, or None when nothing can start now."""
        with self._guard():
            job = self.jobs.next()
            if job is not None and job.spec.configuration.net:  # which a worker imports without asking
                check(NETS.kind, job.spec.configuration.net)
        if job is None:
            return None
        order = Order(
            job=job.id,
            kind=job.kind,
            spec=job.spec.to_dict(),
            methods=self.methods,
            folder=str(self.folder),
            checkpoints=str(self.checkpoints),
            threads=self.threads,
            share=self.share,
        )
        self._open[job.id] = order
        self.watch()
        return order

    def answer(self, answer: Answer) -> bool:
        """Take in what a step came to; True when the job must end here."""
        with self._guard():
            stop = self._answer(answer)
        self.watch()
        return stop

    def lost(self, job: str, reason: str) -> None:
        """A job that ended without an answer."""
        with self._guard():
            end_run(self._open[job], "failed", reason)
            del self._open[job]
            self.jobs.done(job, "failed", error=reason)
        self.watch()

    def _answer(self, answer: Answer) -> bool:
        job = answer.job
        if answer.status == NO_STORAGE:
            raise StorageError(
                f"nothing can be written in {self.folder}: {answer.error}; make room and run the same again"
            )
        if answer.status == "running":
            if self.jobs.report(job, answer.task, answer.increments):
                end_run(self._open[job], "stopped")
                self._end(replace(answer, status="stopped"))
                return True
            if self.jobs.halted:  # its boundary is kept: the next command goes on from there
                del self._open[job]
                self.jobs.hand_back(job)
                return True
        else:
            self._end(answer)
        return False

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """What goes wrong in the driver ends the command as it is, whatever the tuner makes of it."""
        raise_interrupt()
        try:
            yield
        except Exception as error:
            self.aborted = self.aborted or error
            raise

    def _end(self, answer: Answer) -> None:
        del self._open[answer.job]
        self.jobs.done(answer.job, answer.status, answer.values, answer.increments, answer.error)
