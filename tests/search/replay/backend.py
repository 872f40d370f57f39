"""Carries out the jobs of the real queue by looking them up in a recording: nothing is trained.

Searched are the intervals that the recorded grid spans; a configuration is carried out as the nearest point
of the grid, which makes the grid a surrogate of the space. Time is that of the recording, so that several
runs at a time end in the order in which they would have ended.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from analysis.lake.run_folder import JOURNAL
from cl_core.images.dataset import Data
from search.cells.search_queue import SearchQueue
from search.storage.journal import read_file
from search.worker.job import Job
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.study.study_file import load_study
from tests.search.replay.record import AXES
from tests.search.replay.recording import BASE_CLASSES, Recording
from tests.search.simulation import ended

MEMORY = Path("/dev/shm")  # a journal syncs every line to the disk, which here is all that takes time


@dataclass(frozen=True)
class Trial:
    """One configuration of a search: what Optuna was told of it, and the row that it was carried out as."""

    number: int
    row: int
    state: str  # COMPLETE | PRUNED
    value: float | None  # told to Optuna; None where it was stopped
    tasks: int  # carried out
    audited: bool
    params: dict[str, float]


@dataclass(frozen=True)
class Search:
    """A search that was carried out: its trials by number, and its Optuna study in memory."""

    recording: Recording
    trials: list[Trial]
    study: optuna.Study

    @property
    def winner(self) -> Trial:
        """Return the best of the completed trials, which a user would take."""
        return max((t for t in self.trials if t.value is not None), key=lambda t: (t.value, -t.number))

    @property
    def best(self) -> float:
        """The recorded objective of the winner."""
        return float(self.recording.objective[self.winner.row])

    @property
    def saved(self) -> float:
        """The share of all tasks that were not trained, counted as in the report."""
        return 1 - sum(t.tasks for t in self.trials) / (len(self.trials) * self.recording.tasks)


def search(
    recording: Recording,
    seed: int,
    trials: int = 60,
    concurrent: int = 1,
    sampler: str = "tpe",
    sampler_args: dict[str, Any] | None = None,
    stopper: str = "none",
    audit: float = 0.0,
    naive: bool = False,
) -> Search:
    """Search one cell of the recording, `concurrent` runs at a time. The first configuration, and all that a
    sampler draws before it learns, depend on `seed` alone.

    `naive` tells a stopped run as completed, with its objective so far: what generic tuners do.
    """
    study = _study(
        recording,
        sampler=sampler,
        sampler_args=sampler_args or {},
        stopper=stopper,
        audit=audit,
        seed=seed,
        trials=trials,
        start_from=[],
    )
    with _folder() as folder:
        with SearchQueue(study, folder, bases=False) as cells:
            done = _carry_out(cells, recording, concurrent, naive)
            assert cells.finished
        return _told(study, folder, recording, done)


def _study(recording: Recording, **search: Any) -> ResolvedStudy:
    ((label, entry),) = recording.entry.items()
    searched = {axis: recording.domain(axis) for axis in AXES if axis != "lr"}
    plain = {
        "study": "replay",
        "data": "digits",
        "scenarios": [f"B0-{recording.tasks}tasks"],
        "methods": {label: {**entry, **searched}},
        "recipe": {"increment": {"lr": recording.domain("lr")}},
        "search": search,
        "protocol": {"confirm": "none"},
    }
    return resolve(load_study(plain), _noise(BASE_CLASSES * recording.tasks))


@cache
def _noise(classes: int) -> Data:
    """Images that are never looked at: 20 a class."""
    x = np.random.default_rng(0).integers(0, 256, (20 * classes, 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, np.arange(len(x)) % classes)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def _row(recording: Recording, job: Job) -> int:
    configuration = job.spec.configuration
    point = {axis: configuration.hp.get(axis) for axis in AXES}
    point["lr"] = configuration.recipe["increment"]["lr"]
    return recording.nearest({axis: float(str(value)) for axis, value in point.items()})


def _carry_out(
    cells: SearchQueue, recording: Recording, concurrent: int, naive: bool
) -> dict[int, tuple[int, int]]:
    """Every job, task by task in recorded time. Returns number -> (row, tasks carried out)."""
    accuracy, increments = recording.accuracy, recording.increments
    done: dict[int, tuple[int, int]] = {}
    under_way: list[tuple[float, int, int, int, Job]] = []  # ends at, number, row, task
    now, last = 0.0, recording.tasks - 1
    while True:
        while len(under_way) < concurrent and (job := cells.next()) is not None:
            # The first task is shared: it costs a run nothing.
            heapq.heappush(under_way, (now, job.spec.trial, _row(recording, job), 0, job))
        if not under_way:
            return done
        now, number, row, task, job = heapq.heappop(under_way)
        reported = float(increments[row, task]) if task else None
        so_far = (float(accuracy[row, : task + 1].mean()),)  # what a worker says of a run that ends here
        if task == last:
            cells.done(ended(job.id, "completed", so_far, reported))
        elif cells.report(job.id, task, reported):
            cells.done(ended(job.id, "completed" if naive else "stopped", so_far, reported))
        else:
            ends = now + float(recording.seconds[row, task + 1])
            heapq.heappush(under_way, (ends, number, row, task + 1, job))
            continue
        done[number] = (row, task + 1)


def _told(
    study: ResolvedStudy, folder: Path, recording: Recording, done: dict[int, tuple[int, int]]
) -> Search:
    """Return the trials of the journal, as another process reads them."""
    storage = read_file(folder / JOURNAL)
    assert storage is not None
    told = optuna.load_study(study_name=study.cells[0].name, storage=storage)
    kept = optuna.create_study(direction="maximize")
    trials = []
    for trial in told.get_trials(deepcopy=False):
        number = trial.user_attrs["number"]
        row, tasks = done[number]
        # Optuna notes the last intermediate as the value of a trial that is told PRUNED.
        value = trial.values[0] if trial.state == TrialState.COMPLETE else None
        audited = "audited" in trial.user_attrs
        params = {name.rsplit(".", 1)[-1]: float(v) for name, v in trial.params.items()}
        trials.append(Trial(number, row, trial.state.name, value, tasks, audited, params))
        kept.add_trial(trial)
    return Search(recording, trials, kept)
