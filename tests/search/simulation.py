"""Studies that are carried out without training: made-up objectives, rows as a worker leaves them."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from cl_core.images.dataset import Data
from search.cells.search_queue import SearchQueue
from search.cells.stored_trial import NUMBER
from search.lake.rows import INCREMENTS, run_row
from search.lake.writer import study_schemas, write_rows
from search.storage.studies import read_studies
from search.worker.job import Answer, Job
from spaces.resolved.resolve import resolve
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from spaces.study.storage import StoragePart
from spaces.study.study_file import load_study

TASKS = 5
SCHEMAS = study_schemas(["lwf", "bic", "finetune", "icarl"])
TWO = {"lwf": None, "bic": {"stage2_lr": 0.1}}

Ending = tuple[str, float | None]


@functools.cache
def images() -> Data:
    """Ten classes of noise, 20 images each."""
    y = np.repeat(np.arange(10), 20)
    x = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, y, name="arrays")


def made(
    data: Data, methods: Any = TWO, scenarios: Any = ("B0-5tasks",), protocol: Any = None, **search: Any
) -> ResolvedStudy:
    """A study of two methods, 12 configurations a cell; nothing is confirmed unless `protocol` says so."""
    plain = {
        "study": "simulated",
        "data": "digits",
        "scenarios": list(scenarios),
        "methods": methods,
        "search": {"sampler": "tpe", "trials": 12, **search},
        "protocol": {"confirm": None, **(protocol or {})},
    }
    return resolve(load_study(plain), data)


def begun(resolved: ResolvedStudy, folder: Path) -> ResolvedStudy:
    """The study, with its study.yaml in the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(study_yaml(resolved))
    return resolved


def worth(spec: RunSpec) -> float:
    """A made-up objective of a run, from its configuration, class order and seed."""
    made = spec.configuration
    hp = {name: float(value) for name, value in made.hp.items() if isinstance(value, float)}
    distance = sum((math.log(value + 1.0) - 1.0) ** 2 for value in hp.values())
    return 0.9 / (1.0 + distance) + 0.01 * (zlib.crc32(f"{made.class_order}{made.seed}".encode()) % 7)


class Driver:
    """Carries out jobs in simulation, `concurrent` at a time, oldest first. `order`: what was started."""

    def __init__(self, cells: SearchQueue, folder: Path, concurrent: int = 1, bases: bool = True) -> None:
        self.cells, self.folder, self.concurrent = cells, folder, concurrent
        self.order: list[tuple[str, str]] = []  # (job, digest of the configuration)
        self.open: list[Job] = []

    def start(self) -> bool:
        """Fill the slots; False when nothing runs and nothing can start."""
        while len(self.open) < self.concurrent:
            job = self.cells.next()
            if job is None:
                break
            self.order.append((job.id, job.spec.trial_digest))
            self.open.append(job)
        return bool(self.open)

    def end_oldest(
        self, ending: Callable[[RunSpec], Ending] = lambda spec: ("completed", worth(spec))
    ) -> None:
        """Report every task of the oldest job and end it; its row is written before the cells hear of it."""
        job = self.open.pop(0)
        if job.kind == "base":
            self.cells.done(ended(job.id, "completed"))
            return
        status, value = ending(job.spec)
        if status == "completed" and value is not None:
            for task in range(TASKS):
                so_far = value * (1 - 0.1 * (TASKS - 1 - task) / TASKS)
                if self.cells.report(job.spec.run, task, so_far if task else None):
                    status = "stopped"
                    break
        write_row(self.folder, job.spec, status, value)
        error = "it was made to fail" if status == "failed" else None
        self.cells.done(ended(job.id, status, (value,) * len(self.cells.study.objectives), value, error))

    def run(self, jobs: int | None = None, **how: Any) -> Driver:
        """Carry out all jobs, or some and then drop everything like a killed driver."""
        ended = 0
        while self.start():
            if ended == jobs:
                return self
            self.end_oldest(**how)
            ended += 1
        assert self.cells.finished
        return self


def write_row(folder: Path, spec: RunSpec, status: str, value: float | None) -> None:
    """The `trials` row that a worker leaves."""
    none: dict[str, list[dict[str, Any]]] = {"tasks": [], "confusion": []}
    row = run_row(spec, images(), none, status, "it was made to fail" if status == "failed" else None)
    metrics = ("average_incremental_accuracy", "last_accuracy", "forgetting", INCREMENTS)
    row |= {"tasks_done": TASKS, "objective": value, "ended": 1.0, **dict.fromkeys(metrics, value)}
    write_rows(folder, "runs", spec.run, [row], SCHEMAS["runs"])


def trials_in(folder: Path, study: str, part: StoragePart | None = None) -> list[FrozenTrial]:
    """The Optuna trials of one of a run's studies, from whichever storage it has."""
    with read_studies(folder, part) as studies:
        assert studies is not None
        return studies.storage.get_all_trials(studies.ids()[study])


def told(folder: Path, cell: str) -> list[tuple[int, str, float | None]]:
    """(number, state, value) of the configurations of a cell, later Optuna trials of a number superseding."""
    found = {}
    for trial in trials_in(folder, cell):
        if NUMBER in trial.user_attrs:
            first = trial.values[0] if trial.values else None
            found[trial.user_attrs[NUMBER]] = (trial.user_attrs[NUMBER], trial.state.name, first)
    return [found[number] for number in sorted(found)]


def trials_of(order: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(job, config) for job, config in order if not job.startswith("base/")]


def ended(
    job: str,
    status: str,
    values: Sequence[float | None] = (),
    increments: float | None = None,
    error: str | None = None,
) -> Answer:
    """The last answer of a job."""
    return Answer(job, TASKS - 1, TASKS, values, status, error, increments)
