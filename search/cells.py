"""The search itself: one Optuna study per cell, asked and told; equal budgets; bases first; safe to
interrupt.

What is true lies in two places: which configurations were asked, and what they came to, in the journal;
which runs have ended in the tables. A `Cells` that is opened on a folder reads both and goes on. Every ask
is seeded by (the search's seed, cell, number of the configuration), so an ask does not depend on when the
program was started.

A configuration has one run for each class order and seed, carried out one after another; it is told the
mean over them. Its trial in the cell's Optuna study is PRUNED when a run is stopped and FAIL when one
fails.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from cl_core.errors import BadRequest, ClSearchError
from cl_core.hparams import digest
from search.runner import RunSpec, base_key, base_ready
from search.stopping import pruner, should_stop
from search.storage import acquire, open_journal, read_journal
from search.writer import recorded
from spaces.resolved import Cell, ResolvedStudy
from spaces.space import Config
from spaces.study_file import existing_study

NUMBER, CONFIG, ERROR, RETRY = "number", "config", "error", "retry"  # user attributes of an Optuna trial
_STATUS = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Job:
    """Something to carry out: a run ("trial"), or a base stage that runs wait for ("base", of `spec`'s
    configuration)."""

    kind: str
    id: str
    spec: RunSpec


@dataclass(frozen=True)
class CellProgress:
    """Where a cell stands, in configurations. `best` is the best value of a completed one."""

    cell: str
    budget: int
    asked: int
    running: int
    completed: int
    stopped: int
    failed: int
    best: float | None


@dataclass
class _Point:
    """A configuration that was asked."""

    place: int  # of its cell in the study
    number: int
    config: Config
    specs: list[RunSpec]
    trial: int  # number of its Optuna trial
    trial_id: int
    status: str = "running"  # running | completed | stopped | failed: what Optuna was told
    value: float | None = None  # told
    results: dict[int, tuple[str, float | None]] = field(default_factory=dict)  # run -> (status, objective)
    flying: int | None = None  # the run that is being carried out

    @property
    def pending(self) -> int | None:
        """The next run to start; None while one is under way, or when there is none."""
        if self.flying is not None or self.status not in ("running", "completed"):
            return None
        return next((index for index in range(len(self.specs)) if index not in self.results), None)

    @property
    def unfinished(self) -> bool:
        """Whether something of it runs or is still to run."""
        return self.flying is not None or self.pending is not None

    @property
    def failed(self) -> bool:
        """Whether it, or a run that was added to it later, failed."""
        return self.status == "failed" or any(status == "failed" for status, _ in self.results.values())


@dataclass
class _Search:
    """A cell with its Optuna study and all configurations asked, by number."""

    place: int
    cell: Cell
    optuna: optuna.Study
    points: dict[int, _Point] = field(default_factory=dict)


class Cells:
    """Every cell's search. Opening it takes the lock of the run's folder and takes up what stands there.

    With `retry_failed` runs that failed are handed out again. `bases` off hands out no base stages: whoever
    comes first trains it. Raises BadRequest when another run works in the folder, or its journal is
    damaged.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        folder: Path,
        *,
        retry_failed: bool = False,
        bases: bool = True,
        stages: Path | None = None,
    ) -> None:
        self.study = study
        self.folder = folder
        self.stages = stages or folder / "stages"
        self._bases = bases
        self._keys: dict[str, str | None] = {}  # trial -> key of its base stage
        self._ready: set[str | None] = {None}  # keys that nobody has to wait for (any more)
        self._training: dict[str, str] = {}  # id of a base job under way -> key
        self._jobs: dict[str, _Point] = {}  # id of a run under way -> its configuration
        self._unfinished: list[_Point] = []
        self._lock = acquire(folder)
        try:
            self._storage = open_journal(folder)
            self._known = {study.study_name for study in self._storage.get_all_studies()}
            rows = recorded(folder)
            self._searches = [self._open(place, cell) for place, cell in enumerate(study.cells)]
            for search in self._searches:
                self._take_up(search, rows, retry_failed)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Cells:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder's lock back. What is under way stays open and is handed out again by the next
        `Cells`."""
        if self._lock.is_locked:
            self._lock.release()

    # What the driver calls.

    def next(self) -> Job | None:
        """The next job, or None when nothing can start now.

        First what was begun: a configuration's further runs, and after a restart what was under way. Then
        the cell with the fewest configurations is asked, the first in the study's order among equals. A
        cell whose last configuration waits for a base stage is not asked for another.
        """
        for point in sorted(self._unfinished, key=lambda p: (p.number, p.place)):
            if point.pending is not None and (job := self._start(point)) is not None:
                return job
        while True:
            waiting = {point.place for point in self._unfinished if point.pending is not None}
            askable = [s for s in self._searches if len(s.points) < s.cell.budget and s.place not in waiting]
            if not askable:
                return None
            search = min(askable, key=lambda s: (len(s.points), s.place))
            if (job := self._start(self._ask(search))) is not None:
                return job

    @property
    def finished(self) -> bool:
        """Whether every cell has spent its budget and nothing is under way or waits."""
        return (
            not self._training
            and not self._unfinished
            and all(len(search.points) >= search.cell.budget for search in self._searches)
        )

    def report(self, trial: str, task: int, value: float | None) -> bool:
        """Take in the objective after a task (0-based); True when the run should be stopped there."""
        point = self._jobs.get(trial)
        if point is None or point.status != "running" or value is None or not math.isfinite(value):
            return False
        search = self._searches[point.place]
        assert point.flying is not None
        step = point.flying * search.cell.tasks + task
        known = self._storage.get_trial(point.trial_id)
        if step not in known.intermediate_values:  # a run that is handed out again repeats itself
            self._storage.set_trial_intermediate_value(point.trial_id, step, float(value))
            known = self._storage.get_trial(point.trial_id)
        last = len(point.specs) * search.cell.tasks - 1
        return known.last_step == step and should_stop(search.optuna, known, last)

    def done(self, job: str, status: str, value: float | None = None, error: str | None = None) -> None:
        """A job has ended: "completed", "stopped" or "failed", with the run's objective or the first line
        of its error.

        A job that is not under way is ignored, so that an end which is told twice counts once.
        """
        if job in self._training:
            # Failed or not, nobody waits any longer: a run whose base stage is missing trains it, or fails
            # by itself.
            self._ready.add(self._training.pop(job))
            return
        point = self._jobs.pop(job, None)
        if point is None:
            return
        assert point.flying is not None
        if status == "completed" and not _is_number(value):
            status, error = "failed", error or f"{self.study.objective} is {value}"
        point.results[point.flying] = (status, value)
        point.flying = None
        self._settle(point, error)
        if not point.unfinished:
            self._unfinished.remove(point)

    def progress(self) -> list[CellProgress]:
        """Where every cell stands, in the study's order."""
        return [
            _progress(
                search.cell.name,
                search.cell.budget,
                [(p.status, p.value, p.unfinished, p.failed) for p in search.points.values()],
                self.study.direction,
            )
            for search in self._searches
        ]

    # Opening.

    def _open(self, place: int, cell: Cell) -> _Search:
        sampler = RandomSampler(seed=0)  # replaced at every ask
        stopper = pruner(self.study.study.search.stopper, cell.tasks, len(self.study.runs(cell)))
        if cell.name in self._known:  # creating it anew would add a line to the journal at every start
            study = optuna.load_study(
                study_name=cell.name, storage=self._storage, sampler=sampler, pruner=stopper
            )
        else:
            direction: Literal["maximize", "minimize"] = (
                "maximize" if self.study.direction == "max" else "minimize"
            )
            study = optuna.create_study(
                study_name=cell.name,
                storage=self._storage,
                direction=direction,
                sampler=sampler,
                pruner=stopper,
            )
        return _Search(place, cell, study)

    def _take_up(self, search: _Search, rows: Mapping[str, Mapping[str, Any]], retry_failed: bool) -> None:
        """Read a cell's journal: what was asked, what it came to, what has still to run."""
        study = search.optuna
        # An ask that a crash cut short has no number yet: it was never handed out and does not count.
        for trial in study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                study.tell(study.ask(), state=TrialState.FAIL)
            elif trial.state == TrialState.RUNNING and NUMBER not in trial.user_attrs:
                study.tell(trial.number, state=TrialState.FAIL)
        for trial in study.get_trials(deepcopy=False):
            if NUMBER in trial.user_attrs:
                point = self._point(search, trial)
                search.points[point.number] = point  # a later trial of the same number supersedes
        for point in search.points.values():
            trial = self._storage.get_trial(point.trial_id)
            if point.status == "failed" and retry_failed:
                trial = self._again(search, point)
            self._recall(point, trial, rows, retry_failed)
            if point.unfinished:
                self._unfinished.append(point)

    def _point(self, search: _Search, trial: FrozenTrial) -> _Point:
        number, config = int(trial.user_attrs[NUMBER]), dict(trial.user_attrs[CONFIG])
        specs = [RunSpec.from_dict(plain) for plain in self.study.spec(search.cell, number, config)]
        status = _STATUS.get(trial.state, "running")
        value = trial.value if trial.state == TrialState.COMPLETE else None
        return _Point(search.place, number, config, specs, trial.number, trial._trial_id, status, value)

    def _again(self, search: _Search, point: _Point) -> FrozenTrial:
        """A new Optuna trial for a configuration that failed."""
        search.optuna.enqueue_trial(search.cell.space.searched_in(point.config))
        trial = self._suggest(search, point.number, {RETRY: True})[0]
        point.trial, point.trial_id, point.status = trial.number, trial._trial_id, "running"
        return self._storage.get_trial(trial._trial_id)

    def _recall(
        self, point: _Point, trial: FrozenTrial, rows: Mapping[str, Mapping[str, Any]], retry_failed: bool
    ) -> None:
        """Take in the runs of a configuration that have ended according to the tables."""
        if point.status in ("stopped", "failed"):
            return
        begun = (
            trial.datetime_start.timestamp() if RETRY in trial.user_attrs and trial.datetime_start else 0.0
        )
        error = None
        for index, spec in enumerate(point.specs):
            row = rows.get(spec.trial)
            if row is None:
                continue
            status, value = str(row["status"]), row["objective"]
            if status == "failed" and (retry_failed or (row["ended"] or 0.0) < begun):
                continue  # the failure that is being tried again
            if status == "completed" and not _is_number(value):
                status = "failed"
            point.results[index] = (status, value)
            error = error or row["error"]
        self._settle(point, error)

    # Asking, starting, telling.

    def _ask(self, search: _Search) -> _Point:
        number = len(search.points)
        planned = self._planned(search.cell, number)
        if planned is not None:
            search.optuna.enqueue_trial(search.cell.space.searched_in(planned))
        trial, config = self._suggest(search, number, {})
        specs = [RunSpec.from_dict(plain) for plain in self.study.spec(search.cell, number, config)]
        point = _Point(search.place, number, config, specs, trial.number, trial._trial_id)
        search.points[number] = point
        self._unfinished.append(point)
        return point

    def _suggest(
        self, search: _Search, number: int, attributes: Mapping[str, Any]
    ) -> tuple[optuna.Trial, Config]:
        """One ask of a cell's study. The number is written last: without it, an ask never happened."""
        search.optuna.sampler = self._sampler(search.cell, number)
        trial = search.optuna.ask()
        config = search.cell.space.sample_with(trial)
        for name, value in {**attributes, CONFIG: config, NUMBER: number}.items():
            trial.set_user_attr(name, value)
        return trial, config

    def _sampler(self, cell: Cell, number: int) -> BaseSampler:
        """A fresh sampler: what it proposes depends on the seed, the cell, the number and what the cell was
        told."""
        seed = int(digest([self.study.study.search.seed, cell.name, number], 8), 16)
        if self.study.study.search.sampler != "tpe":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def _planned(self, cell: Cell, number: int) -> Config | None:
        """The configuration that comes `number`-th by plan: the published defaults first, then the grid's
        points."""
        search = self.study.study.search
        first: list[Config] = [cell.space.defaults()] if search.start_from else []
        plan: Iterator[Config] = iter(first)
        if search.sampler == "grid":
            plan = itertools.chain(first, (point for point in cell.space.points() if point not in first))
        return next(itertools.islice(plan, number, None), None)

    def _start(self, point: _Point) -> Job | None:
        """The next run of a configuration, or the base stage that it needs; None while somebody trains
        that."""
        index = point.pending
        assert index is not None
        spec = point.specs[index]
        key = self._base(spec)
        if key in self._ready:
            point.flying = index
            self._jobs[spec.trial] = point
            return Job("trial", spec.trial, spec)
        assert key is not None
        job = f"base/{key}"
        if job in self._training:
            return None
        self._training[job] = key
        return Job("base", job, spec)

    def _base(self, spec: RunSpec) -> str | None:
        """The key of the base stage of a run; None where there is nothing to wait for."""
        if not self._bases:
            return None
        if spec.trial not in self._keys:
            try:
                key = base_key(spec.configuration, self.study.data)
                if key not in self._ready and base_ready(spec.configuration, self.study.data, self.stages):
                    self._ready.add(key)
                self._keys[spec.trial] = key
            except ClSearchError:
                self._keys[spec.trial] = None  # the run fails by itself and says why
        return self._keys[spec.trial]

    def _settle(self, point: _Point, error: str | None) -> None:
        """Tell Optuna what a configuration came to, once it is known."""
        if point.status != "running":
            return
        statuses = [status for status, _ in point.results.values()]
        tell = self._searches[point.place].optuna.tell
        if "failed" in statuses:
            if error:
                self._storage.set_trial_user_attr(point.trial_id, ERROR, error)
            tell(point.trial, state=TrialState.FAIL)
            point.status = "failed"
        elif "stopped" in statuses:
            tell(point.trial, state=TrialState.PRUNED)
            point.status = "stopped"
        elif len(statuses) == len(point.specs):
            point.value = math.fsum(value or 0.0 for _, value in point.results.values()) / len(statuses)
            tell(point.trial, point.value)
            point.status = "completed"


def read_progress(folder: Path) -> list[CellProgress]:
    """Where every cell of a run stands, from study.yaml and the journal; changes nothing and takes no lock.

    A run that has not begun anything has no progress. Raises BadRequest where there is no run.
    """
    study = existing_study(folder)
    if study is None or "resolved" not in study:
        raise BadRequest(f"{folder} holds no run (no study.yaml): give the folder that `cl-search run` named")
    storage = read_journal(folder)
    known = {s.study_name: s for s in storage.get_all_studies()} if storage else {}
    out = []
    try:
        direction = str(study["resolved"]["direction"])
        cells = [(str(cell["name"]), int(cell["budget"])) for cell in study["resolved"]["cells"]]
    except (KeyError, TypeError, ValueError):
        raise BadRequest(
            f"{folder / 'study.yaml'} is damaged under 'resolved': run the study again, which writes it anew"
        ) from None
    for name, budget in cells:
        points: dict[int, tuple[str, float | None, bool, bool]] = {}
        if storage and name in known:
            for trial in storage.get_all_trials(known[name]._study_id, deepcopy=False):
                if NUMBER in trial.user_attrs:
                    status = _STATUS.get(trial.state, "running")
                    value = trial.value if status == "completed" else None
                    points[trial.user_attrs[NUMBER]] = (
                        status,
                        value,
                        status == "running",
                        status == "failed",
                    )
        out.append(_progress(name, budget, list(points.values()), direction))
    return out


def _progress(
    cell: str, budget: int, points: list[tuple[str, float | None, bool, bool]], direction: str
) -> CellProgress:
    """`points` are (status, value, unfinished, failed)."""
    values = [value for status, value, _, _ in points if status == "completed" and value is not None]
    return CellProgress(
        cell=cell,
        budget=budget,
        asked=len(points),
        running=sum(unfinished for _, _, unfinished, _ in points),
        completed=sum(status == "completed" and not failed for status, _, _, failed in points),
        stopped=sum(status == "stopped" for status, *_ in points),
        failed=sum(failed for *_, failed in points),
        best=(max if direction == "max" else min)(values, default=None),
    )


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
