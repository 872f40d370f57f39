"""One run from plain values: trains task by task, writes its rows, keeps its resume point.

What `train`, `--local` and every worker call. Nothing below this line knows Ray, Optuna, pydantic or plotly.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_core.errors import BadRequest, ClSearchError, defined_at, located, source_of
from cl_core.hparams import digest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.loading import DATASETS, load
from cl_core.metrics import summary
from cl_core.model.model import save_model
from cl_core.nets.network import NETS
from cl_core.own_code import check
from cl_core.training.checkpoint_keys import (
    base_checkpoint_key,
    base_identity,
    numerics_digest,
    resume_checkpoint_key,
)
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.code import code_digest
from cl_core.training.configuration import Configuration
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training
from search.lake.rows import TASK_TABLES, costs, identity, primary_confusions, run_row, task_rows, versions
from search.lake.writer import Schemas, drop_run, read_rows, study_schemas, write_rows
from spaces.resolved.run_spec import RunSpec

INCREMENTS = "average_incremental_accuracy_without_first"  # what stoppers compare


@dataclass(frozen=True)
class Progress:
    """What a run reports after a task, or when it has ended."""

    trial: str
    task: int  # the last finished one; -1 before the first
    tasks: int
    values: tuple[float | None, ...]  # the objectives over the tasks so far
    increments: float | None  # the accuracy over the increments so far, by which trials are stopped
    done: bool
    status: str  # running | completed | stopped | failed
    error: str | None = None

    @property
    def value(self) -> float | None:
        """The first objective."""
        return self.values[0]

    def line(self, objective: str) -> str:
        """Return the progress in one line; `objective` names the first value."""
        value = "" if self.value is None else f", {objective.replace('_', ' ')} {self.value:.4f}"
        return f"task {self.task + 1} of {self.tasks}: {self.status}{value}"


class Runner:
    """One run, a task a step. Rows go below `folder`; with `folder` None nothing is kept.

    `checkpoints` is the store's folder: the base checkpoint is shared there, and the run resumes from its own
    last resume checkpoint. Construction raises BadRequest; a step never raises what concerns this run alone:
    it ends as "failed".
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path | None = None,
        checkpoints: Path | None = None,
        schemas: Schemas | None = None,
        data: Data | None = None,
        attempt: int = 0,
        share: bool = True,
    ) -> None:
        self.spec, self.folder, self.attempt, self.share = spec, folder, attempt, share
        self.data = data if data is not None else cached_data(spec.configuration.data)
        self.schemas = schemas or study_schemas([spec.configuration.method])
        store = CheckpointStore(checkpoints) if checkpoints is not None else None
        self.boundaries = None if folder is None or store is None else _boundaries(folder, spec)
        self.training = Training(spec.configuration, self.data, store, self.boundaries, share)
        self.started = time.time()
        self.results: list[TaskResult] = []
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TASK_TABLES}
        self.status = "running"
        if folder is not None:
            self._take_up(folder)

    @property
    def split(self) -> str:
        """The split whose counts the objective and the metrics are computed on."""
        return self.spec.measured

    def step(self) -> Progress:
        """Train one task, write its rows, keep its boundary. A failure ends the run with its row."""
        try:
            if not self.training.finished:
                result = self.training.next_task()
                self.results.append(result)
                self._record(result)
                self.training.keep_resume_checkpoint()
            if self.training.finished:
                self._end("completed")
        except Exception as error:
            return self.fail(error)
        return self.progress()

    def fail(self, error: BaseException) -> Progress:
        """End the run as failed; the row has the error's first line, its traceback goes to the log."""
        traceback.print_exception(error, file=sys.stderr)
        message = self._line(error)
        try:
            self._end("failed", message)
        except (ClSearchError, OSError) as second:
            traceback.print_exception(second, file=sys.stderr)
        self.status = "failed"
        return self.progress(message)

    def _line(self, error: BaseException) -> str:
        """The error in one line; file and line come first where it went through code of one's own."""
        first = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, ClSearchError):
            return first
        line = f"{type(error).__name__}: {first}"
        method, net = type(self.training.method), NETS[self.spec.configuration.net or self.data.net]
        through = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        for item in (method, net):
            if source_of(item) in through and not _is_ours(item):
                return located(error, source_of(item))
        return line if _is_ours(method) else f"{line} ({defined_at(method)})"

    def stop(self) -> Progress:
        """End the run early: its rows stay, its status is "stopped"."""
        if self.status == "running":
            self._end("stopped")
        return self.progress()

    def progress(self, error: str | None = None) -> Progress:
        """Where the run stands."""
        known = {**self.metrics(), **costs(self.rows["tasks"])}
        return Progress(
            self.spec.run,
            self.training.done - 1,
            self.training.tasks,
            tuple(known.get(name) for name in self.spec.objectives),
            known.get(INCREMENTS),
            self.status != "running",
            self.status,
            error,
        )

    def metrics(self, split: str | None = None) -> dict[str, float | None]:
        """The metrics of the primary classifier over the tasks so far."""
        confusions = self.confusions(split or self.split)
        return summary(confusions, self.training.sizes[: len(confusions)]) if confusions else {}

    def confusions(self, split: str) -> list[np.ndarray]:
        """The primary classifier's confusion counts after each task so far, from the rows."""
        return primary_confusions(self.rows, self.training.sizes, split)

    def save_model(self, path: Path) -> None:
        """Write the model that the tasks so far have come to. Raises BadRequest."""
        configuration = self.spec.configuration
        origin = {
            "run": self.spec.run,
            "seed": configuration.seed,
            "validation": configuration.validation,
            "versions": versions(),
        }
        save_model(path, self.training, origin)

    def _take_up(self, folder: Path) -> None:
        # Rows of finished tasks count only where a boundary stands to go on from: the rest is trained again.
        done = self.training.done
        for table, column in TASK_TABLES.items():
            rows = read_rows(folder, table, self.spec.run)
            self.rows[table] = [row for row in rows if row[column] < done]
        tasks = [{row[column] for row in self.rows[table]} for table, column in TASK_TABLES.items()]
        if any(found != set(range(done)) for found in tasks):  # of a damaged file, all is trained again
            self.training.forget_resume_checkpoints()
            again = (self.spec.configuration, self.data, self.training.store)
            self.training = Training(*again, self.boundaries, self.share)
            self.rows = {table: [] for table in TASK_TABLES}
        drop_run(folder, self.spec.run, ["runs"])

    def _record(self, result: TaskResult) -> None:
        for table, rows in task_rows(identity(self.spec), self.training, result).items():
            self.rows[table] += rows
            if self.folder is not None:
                write_rows(self.folder, table, self.spec.run, self.rows[table], self.schemas[table])

    def _end(self, status: str, error: str | None = None) -> None:
        if self.folder is not None:
            row = self.run_row(status, error)
            write_rows(self.folder, "runs", self.spec.run, [row], self.schemas["runs"])
        self.status = status
        self.training.forget_resume_checkpoints()

    def run_row(self, status: str, error: str | None = None) -> dict[str, Any]:
        """The row of the `trials` table as things stand."""
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


def _is_ours(item: object) -> bool:
    return item.__module__.startswith("cl_core.")


def end_from_rows(
    spec: RunSpec, folder: Path, schemas: Schemas, status: str, error: str | None = None
) -> None:
    """End a run whose worker will not: write its `trials` row from the rows on disk, remove its boundary.

    It needs neither the worker's device nor its network, so a driver without a GPU can do it.
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
    write_rows(folder, "runs", spec.run, [row], schemas["runs"])
    own = _boundaries(folder, spec)
    for checkpoint in rows["tasks"]:
        key = resume_checkpoint_key(
            spec.configuration, data, checkpoint["numerics"], checkpoint["task"], own.scope
        )
        own.store.remove(key)


def _boundaries(folder: Path, spec: RunSpec) -> ResumeCheckpoints:
    """Resume checkpoints lie in the run's folder, even where the first tasks are shared with other runs."""
    return ResumeCheckpoints(CheckpointStore(folder / "checkpoints"), spec.run)


@lru_cache(maxsize=2)
def _cached(spec: DataSpec) -> Data:
    return load(spec)


def cached_data(spec: DataSpec) -> Data:
    """The data set, kept for the next run of this process, which needs the same permission for its code."""
    check(DATASETS.kind, spec.name)
    return _cached(spec)


def base_key(configuration: Configuration, data: Data) -> str:
    """Equal for runs that share a first task, whatever the machine."""
    return digest(base_identity(configuration, data))


def base_ready(configuration: Configuration, data: Data, checkpoints: Path) -> bool:
    """Whether the base checkpoint of a run stands in the store, for a machine like this one."""
    try:
        numerics = numerics_digest(configuration)
    except BadRequest:  # a driver without the workers' device cannot know
        return False
    return base_checkpoint_key(configuration, data, numerics) in CheckpointStore(checkpoints)


def train_base(configuration: Configuration, checkpoints: Path, data: Data | None = None) -> str:
    """Train and save the base checkpoint of a run unless it stands; return its key. Raises ClSearchError."""
    data = data if data is not None else cached_data(configuration.data)
    training = Training(configuration, data, CheckpointStore(checkpoints))
    training.train_base()
    return training.base_key()
