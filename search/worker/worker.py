"""A worker: one job in whichever process trains it, a run task by task or a base checkpoint.

Ray's trainable and the loop without Ray both use it.
"""

from __future__ import annotations

import traceback
from dataclasses import replace

import torch

from analysis.lake.run_folder import log_file
from cl_core.errors import ClSearchError, named_line
from cl_core.training.captured import RECORDING
from cl_core.training.checkpoints import ResumeCheckpoints
from cl_core.training.device import gpu_is_full
from cl_core.training.epoch_checkpoint import TaskLeft
from search.lake.receipts import receipt
from search.lake.rows import unbegun_row
from search.lake.writer import drop_run, read_schemas, write_rows
from search.remote.object_store import StoreError
from search.remote.run_files import send_run
from search.remote.working_copy import folder_trouble
from search.worker.base_checkpoint import train_base
from search.worker.job import NO_MEMORY, NO_STORAGE, UNFIT_NODE, Answer, Job, Workspace
from search.worker.logs import logged, stamp
from search.worker.node_check import unfit_for, unseen_folder
from search.worker.node_folder import leave, on_node, send_output, take_up
from search.worker.progress import remove_progress
from search.worker.runner import Runner, end_from_rows, resume_checkpoints


class Worker:
    """One job. `step` trains one task, or the base checkpoint; `close` frees what is held."""

    def __init__(self, job: Job, space: Workspace, attempt: int = 0) -> None:
        self.job, self.space, self.attempt = job, space, attempt
        self._runner: Runner | None = None
        self._checked = False

    def step(self) -> Answer:
        """Train the next task. An error is in the answer, and its traceback in the log.

        The first step of a run that resumes trains nothing. It answers for the last finished task, because
        that answer may have been lost. A node that cannot train the job answers so, and writes nothing.
        """
        if not self._checked:
            try:
                self.space = on_node(self.space)
                if reason := unseen_folder(self.space):
                    return self._unfit(reason)
                take_up(self.job, self.space)
            except ClSearchError as error:
                return self._unfit(str(error))
        with logged(log_file(self.space.folder, self.job.id)):
            if not self._checked and (reason := unfit_for(self.job, self.space)):
                stamp(f"{self.job.id}: not trained on this node: {reason}")
                return self._unfit(reason)
            self._checked = True
            try:
                if self.job.kind == "base":
                    answer = self._train_base()
                elif self._runner is not None:
                    answer = self._runner.advance()
                else:
                    self._runner = runner = self._begin()
                    answer = runner.answer() if runner.resumed else runner.advance()
            except TaskLeft:
                stamp("left inside a task, at its last epoch: work has to end")
                answer = self._left()
            except Exception as error:
                if gpu_is_full(error) and self.job.shares_gpu:
                    stamp(f"{self.job.id}: {named_line(error)}")
                    return Answer(self.job.id, -1, 0, (), NO_MEMORY, named_line(error))
                if isinstance(error, StoreError):  # the run is continued when the store answers
                    stamp(f"{self.job.id}: {error}")
                    return Answer(self.job.id, -1, 0, (), NO_STORAGE, str(error))
                answer = self._failed(error)
            if answer.status == "failed" and (trouble := folder_trouble(self.space.folder)):
                # The run did not fail. It will be continued, so no row may say that it ended.
                drop_run(self.space.folder, self.job.spec.run, ["runs"])
                answer = Answer(answer.job, answer.task, answer.tasks, (), NO_STORAGE, trouble)
            value = "" if answer.value is None else f", objective {answer.value:.4f}"
            stamp(f"{answer.status}, {answer.task + 1} of {answer.tasks} tasks{value}")
        send_output(self.job, self.space)
        if self.space.token and self.job.kind == "run":
            return replace(answer, receipt=receipt(self.space.folder, self.job.id))
        return answer

    def close(self) -> None:
        """Free what the job holds. Finished tasks are in the checkpoint store."""
        self._runner = None
        if self._checked:
            remove_progress(self.space.folder, self.job.id)
            leave(self.job, self.space)
        if torch.cuda.is_available():
            with RECORDING:
                torch.cuda.empty_cache()

    def _left(self) -> Answer:
        """Answer for the last finished task; another step continues inside the one that was left."""
        if self._runner is None:
            return Answer(self.job.id, -1, 1, (), "running")
        answer, self._runner = self._runner.answer(), None
        return answer

    def _resume(self) -> ResumeCheckpoints:
        space = self.space
        return resume_checkpoints(space.folder, self.job.id, space.every, bool(space.folder_url))

    def _unfit(self, reason: str) -> Answer:
        return Answer(self.job.id, -1, 0, (), UNFIT_NODE, reason)

    def _begin(self) -> Runner:
        stamp(f"{self.job.id}: attempt {self.attempt + 1}")
        runner = Runner(
            self.job.spec,
            self.space.folder,
            self.space.checkpoints,
            self.attempt,
            self.space.share,
            most_bytes=self.space.checkpoint_bytes,
            reuse=self.space.reuse,
            resume=self._resume(),
        )
        if runner.resumed:
            stamp(f"resumed after task {runner.training.done} of {runner.training.tasks}")
        return runner

    def _train_base(self) -> Answer:
        stamp(f"{self.job.id}: a base checkpoint for several runs")
        train_base(
            self.job.spec.configuration,
            self.space.checkpoints,
            most_bytes=self.space.checkpoint_bytes,
            resume=self._resume(),
        )
        return Answer(self.job.id, 0, 1, (), "completed")

    def _failed(self, error: Exception) -> Answer:
        if self._runner is not None:
            return self._runner.fail(error)
        traceback.print_exc()
        reason = str(error) if isinstance(error, ClSearchError) else named_line(error)
        if self.job.kind == "run":
            _write_failure(self.job, self.space, reason, self.attempt)
        return Answer(self.job.id, -1, 0, (), "failed", reason)


def end_run(job: Job, space: Workspace, status: str, reason: str | None = None) -> None:
    """Write the row of a run whose worker cannot: the run was stopped, or its worker died."""
    if job.kind == "base":
        return
    with logged(log_file(space.folder, job.id)):
        stamp(f"{status}{f': {reason}' if reason else ''}")
        error = None if status == "stopped" else reason or status
        try:
            end_from_rows(job.spec, space.folder, status, error)
        except ClSearchError:
            if error is None:
                raise
            traceback.print_exc()
            _write_failure(job, space, error)
    remove_progress(space.folder, job.id)


def _write_failure(job: Job, space: Workspace, reason: str, attempt: int = 0) -> None:
    """Write the row of a run that could not begin."""
    row = {**unbegun_row(job.spec, reason), "attempt": attempt}
    write_rows(space.folder, "runs", job.id, [row], read_schemas(space.folder)["runs"])
    send_run(space.folder, job.id)
