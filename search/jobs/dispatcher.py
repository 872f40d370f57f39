"""The dispatcher: it hands the jobs of one command to workers, takes their answers, and sees that every run
gets its row.

It lives in the driver. Workers write the rows of what they train. The row of a run that was stopped or lost
is written here from the rows on disk, because its worker may be gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from cl_core.errors import ClSearchError
from cl_core.nets.network import NETS
from cl_core.own_code import check_own_code
from search.jobs.interrupts import raise_interrupt
from search.jobs.queue import JobQueue
from search.worker.job import NO_STORAGE, Answer, Job, Workspace
from search.worker.worker import end_run


class StorageError(ClSearchError):
    """The run folder cannot be written any more. The command ends, and can be given again."""


class Dispatcher:
    """The jobs of one command, a search or an evaluation. `watch` is called after every change."""

    def __init__(self, queue: JobQueue, space: Workspace, watch: Callable[[], None] = lambda: None) -> None:
        self.queue, self.space, self.watch = queue, space, watch
        self.aborted: Exception | None = None  # why no further job may start
        self.trouble: dict[str, str] = {}  # job -> why its worker did not answer
        self._open: dict[str, Job] = {}

    @property
    def finished(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.queue.finished

    def is_open(self, job: str) -> bool:
        """Tell whether a job is handed out and has not ended."""
        return job in self._open

    def next(self) -> Job | None:
        """Hand out the next job; None if nothing can start now."""
        with self._guard():
            job = self.queue.next()
            if job is not None and job.spec.configuration.net:  # a worker imports it without asking
                check_own_code(NETS.kind, job.spec.configuration.net)
        if job is not None:
            self._open[job.id] = job
            self.watch()
        return job

    def answer(self, answer: Answer) -> bool:
        """Take the answer after a step; return True if the job must end here."""
        with self._guard():
            stop = self._take(answer)
        self.watch()
        return stop

    def lost(self, job: str, reason: str) -> None:
        """Fail a job that ended without an answer."""
        with self._guard():
            end_run(self._open.pop(job), self.space, "failed", reason)
            self.queue.done(Answer(job, -1, 0, (), "failed", reason))
        self.watch()

    def _take(self, answer: Answer) -> bool:
        job = answer.job
        if answer.status == NO_STORAGE:
            raise StorageError(
                f"the run folder must be writable: {self.space.folder}: {answer.error}. Make room and give "
                "the same command again."
            )
        if answer.status != "running":
            self._end(answer)
            return False
        if self.queue.report(job, answer.task, answer.increments):
            end_run(self._open[job], self.space, "stopped")
            self._end(replace(answer, status="stopped"))
            return True
        if self.queue.halted:  # its resume checkpoint stays: the next command continues from there
            del self._open[job]
            self.queue.hand_back(job)
            return True
        return False

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Remember an error of the driver, which ends the command whatever Tune makes of it."""
        raise_interrupt()
        try:
            yield
        except Exception as error:
            self.aborted = self.aborted or error
            raise

    def _end(self, answer: Answer) -> None:
        del self._open[answer.job]
        self.queue.done(answer)
