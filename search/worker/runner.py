"""A runner: one run, trained task by task. It writes the rows and keeps the resume checkpoint.

`train`, `rerun` and every worker use it. It knows no Ray, and Optuna only where a run is adaptive.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.lake.run_folder import RESUME, REUSE
from cl_core.errors import ClSearchError, defined_at, located, source_of
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.loading import DATASETS, load
from cl_core.metrics import summary
from cl_core.model.model import save_model
from cl_core.nets.network import NETS
from cl_core.own_code import check_own_code
from cl_core.training.adaptive_options import Proposer
from cl_core.training.checkpoint_keys import epoch_checkpoint_key, resume_checkpoint_key
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.code import code_digest
from cl_core.training.configuration import Configuration
from cl_core.training.device import gpu_is_full
from cl_core.training.events import ignore
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training
from search.lake.rows import (
    INCREMENTS,
    TASK_TABLES,
    costs,
    identity,
    primary_confusions,
    run_row,
    task_rows,
)
from search.lake.writer import Schemas, drop_run, read_rows, read_schemas, write_rows
from search.remote.checkpoints import checkpoint_store
from search.remote.run_files import send_run, withdraw_run
from search.worker.ending import announced_end
from search.worker.job import Answer
from search.worker.progress import remove_progress, watch_run
from spaces.resolved.environment import versions
from spaces.resolved.run_spec import RunSpec

SAVE_EVERY = 600.0  # seconds between two saves inside a task
REUSE_BYTES = 4_000_000_000  # of the checkpoints of later tasks; those used longest ago go first


class Runner:
    """One run, a task a step. Rows are written below `folder`; with `folder` None nothing is kept.

    `checkpoints` is the store's folder, of `most_bytes`: the base checkpoint is shared there, and the run
    resumes from its own last resume checkpoint. With `reuse`, tasks that another run of the folder has
    trained alike are taken over. `resume` is where it resumes, by default `resume_checkpoints`. Construction
    raises BadRequest. A step raises no error of
    the run: the run ends as "failed".
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path | None = None,
        checkpoints: Path | None = None,
        attempt: int = 0,
        share: bool = True,
        data: Data | None = None,
        most_bytes: int | None = None,
        reuse: bool = False,
        resume: ResumeCheckpoints | None = None,
    ) -> None:
        self.spec, self.folder, self.attempt, self.share = spec, folder, attempt, share
        self._resume = resume
        self.data = data if data is not None else cached_data(spec.configuration.data)
        self.schemas: Schemas = {} if folder is None else read_schemas(folder)
        self.store = None if checkpoints is None else checkpoint_store(checkpoints, most_bytes)
        self.reuse: CheckpointStore | None = None
        if reuse and folder is not None:
            self.reuse = checkpoint_store(folder / REUSE, min(most_bytes or REUSE_BYTES, REUSE_BYTES))
        self.training = self._training()
        self.started = time.time()
        self.results: list[TaskResult] = []
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TASK_TABLES}
        self.status = "running"
        if folder is not None:
            self._take_up(folder)
        self.resumed = 0 < self.training.done < self.training.tasks  # after a task of an earlier attempt

    def _training(self) -> Training:
        resume = None
        if self.folder is not None and self.store is not None:
            resume = self._resume or resume_checkpoints(self.folder, self.spec.run)
        watch = ignore if self.folder is None else watch_run(self.folder, self.spec.run)
        configuration = self.spec.configuration
        proposer = proposer_of(configuration)
        return Training(
            configuration,
            self.data,
            self.store,
            resume,
            self.share,
            watch=watch,
            proposer=proposer,
            reuse=self.reuse,
        )

    @property
    def split(self) -> str:
        """The split on which the objectives and the metrics are computed."""
        return self.spec.measured

    def step(self) -> Answer:
        """Train one task, write its rows, keep its checkpoint. A failure ends the run with its row."""
        try:
            return self.advance()
        except Exception as error:
            return self.fail(error)

    def advance(self) -> Answer:
        """Do as `step` does, but raise what fails: the caller ends the run, or leaves it to be continued."""
        if not self.training.finished:
            result = self.training.next_task()
            self.results.append(result)
            self._record(result)
            self.training.keep_resume_checkpoint()
        if self.training.finished:
            self._end("completed")
        return self.answer()

    def fail(self, error: BaseException) -> Answer:
        """End the run as failed: the error in one line in its row, the traceback in the log."""
        traceback.print_exception(error, file=sys.stderr)
        message = self._line(error)
        try:
            self._end("failed", message)
        except (ClSearchError, OSError) as second:
            traceback.print_exception(second, file=sys.stderr)
        self.status = "failed"
        return self.answer(message)

    def _line(self, error: BaseException) -> str:
        """Return the error in one line. If the user's own code raised it, file and line come first."""
        first = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, ClSearchError):
            return first
        if gpu_is_full(error):
            size = first.split(". ")[0]  # torch goes on with advice on its allocator
            return f"the GPU must hold the run ({size}): lower recipe.batch, or raise resources.gpu"
        line = f"{type(error).__name__}: {first}"
        method, net = type(self.training.method), NETS[self.spec.configuration.net or self.data.net]
        through = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        for item in (method, net):
            if source_of(item) in through and not _is_ours(item):
                return located(error, source_of(item))
        return line if _is_ours(method) else f"{line} ({defined_at(method)})"

    def stop(self) -> Answer:
        """End the run early. Its rows stay, its status is "stopped"."""
        if self.status == "running":
            self._end("stopped")
        return self.answer()

    def answer(self, error: str | None = None) -> Answer:
        """Return the state of the run."""
        known = {**self.metrics(), **costs(self.rows["tasks"])}
        return Answer(
            self.spec.run,
            self.training.done - 1,
            self.training.tasks,
            tuple(known.get(name) for name in self.spec.objectives),
            self.status,
            error,
            known.get(INCREMENTS),
        )

    def metrics(self, split: str | None = None) -> dict[str, float | None]:
        """Return the metrics of the primary classifier over the tasks so far."""
        confusions = self.confusions(split or self.split)
        return summary(confusions, self.training.sizes[: len(confusions)]) if confusions else {}

    def confusions(self, split: str) -> list[np.ndarray]:
        """Return the confusion counts of the primary classifier after each task so far, from the rows."""
        return primary_confusions(self.rows, self.training.sizes, split)

    def save_model(self, path: Path) -> None:
        """Save the model after the tasks so far. Raises BadRequest."""
        configuration = self.spec.configuration
        origin = {
            "run": self.spec.run,
            "seed": configuration.seed,
            "validation": configuration.validation,
            "versions": versions(),
        }
        save_model(path, self.training, origin)

    def _take_up(self, folder: Path) -> None:
        # Rows of finished tasks count only as far as a resume checkpoint goes: the rest is trained again.
        done = self.training.done
        for table, column in TASK_TABLES.items():
            rows = read_rows(folder, table, self.spec.run)
            self.rows[table] = [row for row in rows if row[column] < done]
        tasks = [{row[column] for row in self.rows[table]} for table, column in TASK_TABLES.items()]
        if any(found != set(range(done)) for found in tasks):  # a damaged file: train all of it again
            self.training.forget_resume_checkpoints()
            self.training = self._training()
            self.rows = {table: [] for table in TASK_TABLES}
        drop_run(folder, self.spec.run, ["runs"])
        withdraw_run(folder, self.spec.run, ["runs"])

    def _record(self, result: TaskResult) -> None:
        for table, rows in task_rows(identity(self.spec), self.training, result).items():
            self.rows[table] += rows
            if self.folder is not None:
                write_rows(self.folder, table, self.spec.run, self.rows[table], self.schemas[table])
        if self.folder is not None:  # before the checkpoint, which counts only as far as the rows go
            send_run(self.folder, self.spec.run)

    def _end(self, status: str, error: str | None = None) -> None:
        if self.folder is not None:
            row = self.run_row(status, error)
            write_rows(self.folder, "runs", self.spec.run, [row], self.schemas["runs"])
            send_run(self.folder, self.spec.run)
            remove_progress(self.folder, self.spec.run)
        self.status = status
        self.training.forget_resume_checkpoints()

    def run_row(self, status: str, error: str | None = None) -> dict[str, Any]:
        """Return the row of the table `runs` as of now."""
        here = {
            "numerics": self.training.numerics,
            "code": code_digest(*self.spec.configuration.parts(self.data)),
            "wall_seconds": time.time() - self.started,
            "started": self.started,
            "ended": time.time(),
            "attempt": self.attempt,
            "threads": torch.get_num_threads(),
            "device": str(self.training.device),
            "precision": self.training.precision,
            "versions": json.dumps(versions(), sort_keys=True),
        }
        return {**run_row(self.spec, self.data, self.rows, status, error), **here}


def proposer_of(configuration: Configuration) -> Proposer | None:
    """Return what proposes values at every task of an adaptive run; None for other runs."""
    if configuration.adaptive is None:
        return None
    from search.worker.task_proposer import task_proposer  # with Optuna, which no other run needs

    return task_proposer(configuration)


def _is_ours(item: object) -> bool:
    return item.__module__.startswith("cl_core.")


def end_from_rows(spec: RunSpec, folder: Path, status: str, error: str | None = None) -> None:
    """End a run whose worker cannot: write its row from the rows on disk, remove its resume checkpoints.

    This needs neither the device of the worker nor its network, so a driver without a GPU can do it.
    """
    data = cached_data(spec.configuration.data)
    rows = {table: read_rows(folder, table, spec.run) for table in TASK_TABLES}
    known = {row["numerics"] for row in rows["tasks"]}
    row = run_row(spec, data, rows, status, error)
    row |= {
        "code": code_digest(*spec.configuration.parts(data)),
        "ended": time.time(),
        "numerics": known.pop() if len(known) == 1 else None,
    }
    write_rows(folder, "runs", spec.run, [row], read_schemas(folder)["runs"])
    send_run(folder, spec.run)
    own = resume_checkpoints(folder, spec.run)
    own.store.remove(epoch_checkpoint_key(own.scope))
    for task in rows["tasks"]:
        key = resume_checkpoint_key(spec.configuration, data, task["numerics"], task["task"], own.scope)
        own.store.remove(key)


def resume_checkpoints(
    folder: Path, job: str, every: float | None = SAVE_EVERY, far: bool = False
) -> ResumeCheckpoints:
    """Return the resume checkpoints of a run, with a save inside a task each `every` seconds.

    They lie in the run folder, also where the store does not. With `far` the driver is on another machine,
    and the folder a copy of one in an object store.
    """
    store = checkpoint_store(folder / RESUME, alone=True)
    return ResumeCheckpoints(store, job, every, announced_end(folder, far))


_LOADING = threading.Lock()


@lru_cache(maxsize=2)
def _cached(spec: DataSpec) -> Data:
    return load(spec)


def cached_data(spec: DataSpec) -> Data:
    """Return the data set, kept for the next run of this process. Raises BadRequest for code not allowed."""
    check_own_code(DATASETS.kind, spec.name)
    with _LOADING:  # runs of one process read the images once
        return _cached(spec)
