"""The dispatcher: it hands the jobs of one command to workers, takes their answers, and sees that every run
gets its row.

It lives in the driver. Workers write the rows of what they train. The row of a run that was stopped or lost
is written here from the rows on disk, because its worker may be gone. What a worker says it wrote is compared
with what is here. A job that failed because of its node is handed out again, for another node. One that ran
out of GPU memory beside others gets a larger part of a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cl_core.errors import ClSearchError
from cl_core.nets.network import NETS
from cl_core.own_code import check_own_code
from search.jobs.interrupts import raise_interrupt
from search.jobs.nodes import Nodes
from search.jobs.queue import JobQueue
from search.lake.compaction import Compaction
from search.lake.receipts import lost_rows
from search.lake.writer import drop_run
from search.remote.working_copy import check_sent, folder_trouble
from search.worker.job import NO_MEMORY, NO_STORAGE, UNFIT_NODE, Answer, Job, Node, Workspace
from search.worker.node_folder import fetch_rows
from search.worker.worker import end_run

HERE = Node("", "of this command")


class StorageError(ClSearchError):
    """The run folder cannot be written any more. The command ends, and can be given again."""


class Dispatcher:
    """The jobs of one command, a search or an evaluation. `watch` is called after every change.

    `say` gets a line where people should know something at once.
    """

    def __init__(
        self,
        queue: JobQueue,
        space: Workspace,
        watch: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.queue, self.space, self.watch = queue, space, watch
        self.nodes = Nodes(space.folder, say)
        self._compaction = Compaction(space.folder)
        self.gpu = 0.0  # the part of a GPU that the next job gets
        self.aborted: Exception | None = None  # why no further job may start
        self.trouble: dict[str, str] = {}  # job -> why its worker did not answer
        self._open: dict[str, Job] = {}
        self._again: list[Job] = []  # for another node than they failed on, or for a larger part of a GPU

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
            if self.queue.halted:
                self._hand_back_again()
            job = self._again.pop(0) if self._again else self.queue.next()
            if job is not None and job.spec.configuration.net:  # a worker imports it without asking
                check_own_code(NETS.kind, job.spec.configuration.net)
        if job is None:
            return None
        job = self._open[job.id] = replace(job, gpu=self.gpu)
        self.watch()
        return _placed(job)

    def answer(self, answer: Answer) -> bool:
        """Take the answer after a step; return True if the job must end here."""
        with self._guard():
            stop = self._take(answer)
        self.watch()
        return stop

    def look(self) -> None:
        """See that a node is left for every job. Raises NoNodeLeft if none is, which ends the command."""
        with self._guard():
            self.nodes.look([*self._open, *(job.id for job in self._again)])

    def lost(self, job: str, reason: str) -> None:
        """Fail a job that ended without an answer."""
        with self._guard():
            fetch_rows(self._open[job], self.space)
            end_run(self._open.pop(job), self.space, "failed", reason)
            self.queue.done(Answer(job, -1, 0, (), "failed", reason))
        self.watch()

    def _take(self, answer: Answer) -> bool:
        job = answer.job
        if (reason := self._trouble_of_node(answer)) is not None:
            self._elsewhere(answer, reason)
            return True
        if answer.status == NO_MEMORY:
            self._with_more_memory(answer)
            return True
        if answer.status != "running":
            if not self._arrived(answer):
                return True
            self._end(answer)
            return False
        if answer.task >= 0 and self.queue.report(job, answer.task, answer.increments):
            if self._arrived(answer):
                end_run(self._open[job], self.space, "stopped")
                self._end(replace(answer, status="stopped"))
            return True
        if self.queue.halted:  # its resume checkpoint stays: the next command continues from there
            self._hand_back(self._open.pop(job))
            return True
        return False

    def _trouble_of_node(self, answer: Answer) -> str | None:
        """Return why a job failed if its node is the reason. Raises StorageError if the folder is."""
        if answer.status == UNFIT_NODE:
            return answer.error or UNFIT_NODE
        if answer.status != NO_STORAGE:
            return None
        folder = self.space.folder
        if answer.node is not None and folder_trouble(folder) is None:
            return f"it cannot write in {folder} ({answer.error}): make it writable there"
        raise StorageError(
            f"the run folder must be writable: {folder}: {answer.error}. Make room and give the same command "
            "again."
        )

    def _arrived(self, answer: Answer) -> bool:
        """Tell whether the rows of a run are here as its worker wrote them; if not, it is trained again."""
        fetch_rows(self._open[answer.job], self.space)
        lost = lost_rows(self.space.folder, answer.job, answer.receipt)
        if not lost:
            return True
        drop_run(self.space.folder, answer.job)
        folder = self.space.folder
        self._elsewhere(
            answer, f"its rows of {', '.join(lost)} did not reach {folder}: mount that folder there"
        )
        return False

    def _elsewhere(self, answer: Answer, reason: str) -> None:
        """Hand a job out again, for another node."""
        self._again.append(self._open.pop(answer.job))
        self.nodes.failed(answer.job, answer.node or HERE, reason)

    def _with_more_memory(self, answer: Answer) -> None:
        """Hand a job out again with twice its part of a GPU, and all later jobs with as much."""
        job = self._open.pop(answer.job)
        self._again.append(job)
        if (wider := min(1.0, 2 * job.gpu)) > self.gpu:
            self.gpu = wider
            self.nodes.say(
                f"{job.id} ran out of GPU memory beside other runs: from now on a run gets {wider:g} of a "
                f"GPU. Set resources.gpu to {wider:g}."
            )

    def _hand_back_again(self) -> None:
        for job in self._again:
            self._hand_back(job)
        self._again.clear()

    def _hand_back(self, job: Job) -> None:
        if job.kind == "base":  # whoever needs it trains it
            self.queue.done(Answer(job.id, -1, 0, (), "failed"))
        else:
            self.queue.hand_back(job.id)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Remember an error of the driver, which ends the command whatever Tune makes of it."""
        raise_interrupt()
        try:
            check_sent(self.space.folder)
            yield
        except Exception as error:
            self.aborted = self.aborted or error
            raise

    def _end(self, answer: Answer) -> None:
        job = self._open.pop(answer.job)
        self.queue.done(answer)
        if job.kind == "run" and answer.status != "failed":  # failed ones may be tried again
            self._compaction.add(answer.job)

    def close(self) -> None:
        """Hand back the runs that were given up, and wait for what still writes."""
        for job in [*self._open.values(), *self._again]:
            if job.kind == "run":
                self.queue.hand_back(job.id)
        self._open.clear()
        self._again.clear()
        self._compaction.close()


def _placed(job: Job) -> Job:
    """Return a job whose files have absolute paths: a worker may start in another folder, as another user."""
    configuration = job.spec.configuration
    data = configuration.data
    if data.root is not None:
        data = replace(data, root=str(Path(data.root).expanduser().absolute()))
    init = configuration.init and str(Path(configuration.init).expanduser().absolute())
    return replace(job, spec=replace(job.spec, configuration=replace(configuration, data=data, init=init)))
