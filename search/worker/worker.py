"""One job in whichever process it runs: a run, task by task, or a base checkpoint that several runs share.

The trainable of Ray and the loop without Ray both drive this. What it is told and what it answers are
plain values.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cl_core.errors import ClSearchError, named_line
from cl_core.training.configuration import Configuration
from search.lake.writer import drop_run, study_schemas, write_rows
from search.storage.trouble import storage_trouble
from search.worker.logs import log_file, recorded, stamp
from search.worker.runner import Progress, Runner, end_from_rows, train_base
from spaces.resolved.run_spec import RunSpec

NO_STORAGE = "no storage"  # the status of a job that could not be carried out for want of a place to write


@dataclass(frozen=True)
class Order:
    """What a worker is told about one job. `folder` and `checkpoints` are absolute paths."""

    job: str
    kind: str  # trial | base
    spec: Mapping[str, Any]  # RunSpec.to_dict()
    methods: Sequence[str]  # of the whole study: they decide the columns
    folder: str
    checkpoints: str
    threads: int  # of torch
    share: bool = True  # whether the first task comes from, and goes to, the shared checkpoint
    attempt: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Order:
        """The order that `to_dict` described; further keys are left alone."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Answer:
    """What one step came to. `task` is the last finished one, -1 before the first."""

    job: str
    task: int
    tasks: int
    values: Sequence[float | None]  # the objectives so far
    status: str  # running | completed | failed | no storage
    error: str | None = None  # one line
    increments: float | None = None  # the accuracy over the increments so far, by which trials are stopped

    @property
    def done(self) -> bool:
        """Whether the job has ended."""
        return self.status != "running"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with `done` as Tune reads it."""
        return {**asdict(self), "values": list(self.values), "done": self.done}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """The answer that `to_dict` described; further keys are left alone."""
        known = {name: values.get(name) for name in cls.__dataclass_fields__}
        return cls(**{**known, "values": tuple(values.get("values") or ())})  # type: ignore[arg-type]


class Work:
    """The job of one order. `step` trains one task, or the base checkpoint; `close` frees what is held."""

    def __init__(self, order: Order) -> None:
        # Ray sets OMP_NUM_THREADS by a rule of its own; the number decides the bits, so it is said here.
        torch.set_num_threads(order.threads)
        self.order = order
        self.folder, self.checkpoints = Path(order.folder), Path(order.checkpoints)
        self.log = log_file(self.folder, order.job)
        self._runner: Runner | None = None

    def step(self) -> Answer:
        """Train the next task. What goes wrong is in the answer, its traceback in the log.

        The first step of a run that resumes trains nothing: it answers for the last finished task, whose
        answer may have been lost.
        """
        with recorded(self.log):
            try:
                answer = self._base() if self.order.kind == "base" else self._task()
            except Exception as error:
                answer = self._failed(error)
            if answer.status == "failed" and (trouble := storage_trouble(self.folder)):
                # The run did not fail: it is to be taken up again, so no row may say that it ended.
                drop_run(self.folder, self.order.spec["run"], ["runs"])
                answer = Answer(answer.job, answer.task, answer.tasks, (), NO_STORAGE, trouble)
            first = next(iter(answer.values), None)
            value = "" if first is None else f", objective {first:.4f}"
            stamp(f"{answer.status}, {answer.task + 1} of {answer.tasks} tasks{value}")
        return answer

    def close(self) -> None:
        """Free what the job holds; what is trained so far is in the checkpoint store."""
        self._runner = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _base(self) -> Answer:
        stamp(f"{self.order.job}: a base checkpoint for several runs")
        train_base(Configuration.from_dict(self.order.spec["configuration"]), self.checkpoints)
        return Answer(self.order.job, 0, 1, (), "completed")

    def _task(self) -> Answer:
        if self._runner is not None:
            return self._answer(self._runner.step())
        stamp(f"{self.order.job}: attempt {self.order.attempt + 1}")
        self._runner = _runner(self.order)
        resumed = self._runner.training.done
        if resumed and not self._runner.training.finished:
            stamp(f"resumed after task {resumed} of {self._runner.training.tasks}")
            return self._answer(self._runner.progress())
        return self._answer(self._runner.step())

    def _failed(self, error: Exception) -> Answer:
        if self._runner is not None:
            return self._answer(self._runner.fail(error))
        traceback.print_exc()
        reason = str(error) if isinstance(error, ClSearchError) else named_line(error)
        if self.order.kind != "base":
            _write_failure(self.order, reason)
        return Answer(self.order.job, -1, 0, (), "failed", reason)

    def _answer(self, progress: Progress) -> Answer:
        return Answer(
            self.order.job,
            progress.task,
            progress.tasks,
            progress.values,
            progress.status,
            progress.error,
            progress.increments,
        )


def end_run(order: Order, status: str, reason: str | None = None) -> None:
    """Write the `trials` row of a run whose worker will not: it was stopped, or its worker died."""
    if order.kind == "base":
        return
    with recorded(log_file(Path(order.folder), order.job)):
        stamp(f"{status}{f': {reason}' if reason else ''}")
        error = None if status == "stopped" else reason or status
        schemas = study_schemas(order.methods)
        spec = RunSpec.from_dict(order.spec)
        try:
            end_from_rows(spec, Path(order.folder), schemas, status, error)
        except ClSearchError:
            if error is None:
                raise
            traceback.print_exc()
            _write_failure(order, error)


def _runner(order: Order) -> Runner:
    return Runner(
        RunSpec.from_dict(order.spec),
        Path(order.folder),
        Path(order.checkpoints),
        schemas=study_schemas(order.methods),
        attempt=order.attempt,
        share=order.share,
    )


def _write_failure(order: Order, reason: str) -> None:
    """The row of a run that could not even begin: what is known of it."""
    spec = RunSpec.from_dict(order.spec)
    configuration = spec.configuration
    row = {
        "cell": spec.cell,
        "label": spec.label,
        "method": configuration.method,
        "run": spec.run,
        "trial_digest": spec.trial_digest,
        "trial": spec.trial,
        "purpose": spec.purpose,
        "dataset": configuration.data.name,
        "scenario": configuration.scenario.name,
        "base": 0,
        "increments": "",
        "class_order": configuration.class_order or configuration.scenario.class_order,
        "seed": configuration.seed,
        "net": configuration.net or "",
        "status": "failed",
        "split": spec.measured,
        "tasks": 0,
        "tasks_done": 0,
        "attempt": order.attempt,
        "error": reason,
    }
    write_rows(Path(order.folder), "runs", spec.run, [row], study_schemas(order.methods)["runs"])
