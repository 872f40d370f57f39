"""The search itself: which job comes next, and what an end means; equal budgets; bases first; safe to
interrupt.

What is true lies in two places: which configurations were asked, and what they came to, in Optuna's storage;
which runs have ended in the tables. A `Cells` that is opened on a folder reads both and goes on.

A configuration has one run for each class order and seed, carried out one after another; it is told the
mean or the worst of them. Its trial in the cell's Optuna study is PRUNED when it is stopped and FAIL when a
run fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from search.audit import mark
from search.budget import Budget
from search.cell_study import CellStudy
from search.control import Control
from search.jobs import Bases, Job
from search.points import Ending, Point, numbers
from search.progress import CellProgress, Standing, counted
from search.recalled import increments_of
from search.runner import INCREMENTS
from search.storage import acquire, open_studies
from search.warm import Observation
from search.writer import recorded
from spaces.budget import BudgetPart
from spaces.resolved import ResolvedStudy

Known = Mapping[str, Mapping[str, Sequence[Observation]]]  # source -> cell -> what it found


class Cells:
    """Every cell's search. Opening it takes the lock of the run's folder and takes up what stands there.

    With `retry_failed` runs that failed are handed out again. `bases` off hands out no base stages: whoever
    comes first trains it. `known` is what other runs have found. Raises BadRequest when another run works in
    the folder, or its studies are damaged or out of reach.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        folder: Path,
        *,
        retry_failed: bool = False,
        bases: bool = True,
        stages: Path | None = None,
        budget: Budget | None = None,
        known: Known | None = None,
    ) -> None:
        self.study = study
        self.folder = folder
        self.stages = stages or folder / "stages"
        self._bases = Bases(self.stages, lambda spec: study.data, bases)
        self._jobs: dict[str, Point] = {}  # id of a run under way -> its configuration
        self._unfinished: list[Point] = []
        self._retry_failed = retry_failed
        self._lock = acquire(folder)
        try:
            self._budget = budget or Budget(BudgetPart(), folder)
            self._control = Control(folder)
            self._studies = open_studies(folder, study.study.storage)
        except BaseException:
            self._lock.release()
            raise
        try:
            names = self._studies.ids()
            self._cells = [
                CellStudy(self._studies.storage, study, place, cell, names, self._studies.prefix)
                for place, cell in enumerate(study.cells)
            ]
            self._rows = recorded(folder)
            self._points = [self._take_up(cell, retry_failed) for cell in self._cells]
            for source, found in (known or {}).items():
                for cell in self._cells:
                    cell.learn(source, found.get(cell.cell.name, ()))
        except BaseException:
            self.close()
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
        try:
            self._studies.close()
        finally:
            if self._lock.is_locked:
                self._lock.release()

    # What the driver calls.

    def next(self) -> Job | None:
        """The next job, or None when nothing can start now.

        First what was begun: a configuration's further runs, and after a restart what was under way. Then a
        cell is asked: of the highest priority, with the fewest configurations, the first in the study's
        order. A cell whose last configuration waits for a base stage is not asked for another, a paused one
        for nothing, and no cell once the budget is spent.
        """
        if self.halted:
            return None
        for point in sorted(self._unfinished, key=lambda p: (-self._priority(p.place), p.number, p.place)):
            if self._may_go_on(point) and (job := self._start(point)) is not None:
                return job
        while True:
            waiting = {point.place for point in self._unfinished if point.pending is not None}
            askable = [cell for cell in self._cells if self._askable(cell) and cell.place not in waiting]
            if not askable:
                return None
            cell = min(askable, key=lambda c: (-self._priority(c.place), len(self._points[c.place]), c.place))
            points = self._points[cell.place]
            point = points[len(points)] = cell.ask(len(points))
            self._recall(cell, point, self._retry_failed)
            if point.unfinished:
                self._unfinished.append(point)
                if (job := self._start(point)) is not None:
                    return job

    @property
    def halted(self) -> bool:
        """Whether the budget is spent: running tasks end, nothing else starts."""
        return self._budget.over is not None

    @property
    def finished(self) -> bool:
        """Whether nothing is under way and nothing can start any more."""
        if self._bases.under_way or self._jobs:
            return False
        return self.halted or not (
            any(self._may_go_on(point) for point in self._unfinished)
            or any(self._askable(cell) for cell in self._cells)
        )

    @property
    def left(self) -> str | None:
        """Why there is something left to do though this is `finished`; None where all is done."""
        paused = self._control.state.paused
        begun = {point.place for point in self._unfinished}
        cells = [c for c in self._cells if c.place in begun or len(self._points[c.place]) < c.cell.budget]
        if not cells:
            return None
        names = [cell.cell.name for cell in cells if cell.cell.name in paused]
        return self._budget.over or (f"paused: {', '.join(names)}" if names else None)

    def report(self, trial: str, task: int, increments: float | None) -> bool:
        """Take in the accuracy over the increments after a task (0-based); True when the run should be
        stopped there."""
        self._budget.reach(trial)
        point = self._jobs.get(trial)
        if point is None or point.status != "running":
            return False
        assert point.flying is not None
        return self._reported(point, point.flying, task, increments)

    def done(
        self,
        job: str,
        status: str,
        values: Sequence[float | None] = (),
        increments: float | None = None,
        error: str | None = None,
    ) -> None:
        """A job has ended: "completed", "stopped" or "failed", with the run's objectives and its accuracy
        over the increments, or the first line of its error.

        A job that is not under way is ignored, so that an end which is told twice counts once.
        """
        self._budget.reach(job, end=True)
        if self._bases.end(job):
            return
        point = self._jobs.pop(job, None)
        if point is None:
            return
        assert point.flying is not None
        index, point.flying = point.flying, None
        self._ended(point, index, status, values, increments, error)
        # After the verdict at a run's end, which may be the one that lets the configuration run on.
        if (task := self._cells[point.place].audited_task(point, index)) is not None:
            mark(self.folder, job, task)
        if not point.unfinished:
            self._unfinished.remove(point)

    def hand_back(self, job: str) -> None:
        """A run that is under way goes no further now; the next command takes it up at its last boundary."""
        self._budget.reach(job, end=True)
        point = self._jobs.pop(job, None)
        if point is not None:
            point.flying = None

    def progress(self) -> list[CellProgress]:
        """Where every cell stands, in the study's order."""
        paused = self._control.state.paused
        return [
            counted(
                cell.cell.name,
                cell.cell.budget,
                [Standing.of(point) for point in self._points[cell.place].values()],
                self.study.directions(cell.cell)[self.study.objective],
                paused,
                cell.cell.seeks,
            )
            for cell in self._cells
        ]

    # Taking up.

    def _take_up(self, cell: CellStudy, retry_failed: bool) -> dict[int, Point]:
        """Read back what a cell was asked, what it came to, what has still to run."""
        points = cell.take_up()
        for point in points.values():
            if point.status == "failed" and retry_failed:
                cell.again(point)
            self._recall(cell, point, retry_failed)
            if point.unfinished:
                self._unfinished.append(point)
        return points

    def _recall(self, cell: CellStudy, point: Point, retry_failed: bool) -> None:
        """Take in the runs of a configuration that have ended according to the tables.

        A configuration that was asked just now has such rows where the studies are older than the tables:
        the driver's machine was lost with the last seconds of its journal.
        """
        if point.status in ("stopped", "failed"):
            return
        begun = cell.retried_since(point)
        for index, spec in enumerate(point.specs):
            row = self._rows.get(spec.trial)
            if row is None or row["config"] != spec.config:
                continue
            status = str(row["status"])
            if status == "failed" and (retry_failed or (row["ended"] or 0.0) < begun):
                continue  # the failure that is being tried again
            values = [row[name] for name in self.study.objectives]
            self._repeat(point, index, row)
            self._ended(point, index, status, values, row[INCREMENTS], row["error"])
            task = cell.audited_task(point, index)
            if task is not None and row["audited_after"] is None:
                mark(self.folder, spec.trial, task, row)

    def _repeat(self, point: Point, index: int, row: Mapping[str, Any]) -> None:
        """Take in what an ended run reported, where that is not known any more, from its rows."""
        if point.status != "running":
            return
        cell = self._cells[point.place]
        last = int(row["tasks_done"] or 0) - 1
        missing = [t for t in range(1, last + 1) if index * cell.cell.tasks + t not in self._course(point)]
        if not missing:
            return
        known = increments_of(self.folder, row, cell.cell.sizes)
        for task in missing:
            if task >= len(known):
                return
            if self._reported(point, index, task, known[task]) and row["status"] == "stopped":
                return

    def _course(self, point: Point) -> Mapping[int, float]:
        return self._cells[point.place].courses[point.number].values

    # Starting, ending.

    def _priority(self, place: int) -> int:
        return self._control.state.priority.get(self._cells[place].cell.name, 0)

    def _paused(self, place: int) -> bool:
        return self._cells[place].cell.name in self._control.state.paused

    def _askable(self, cell: CellStudy) -> bool:
        return len(self._points[cell.place]) < cell.cell.budget and not self._paused(cell.place)

    def _may_go_on(self, point: Point) -> bool:
        return point.pending is not None and not self._paused(point.place)

    def _start(self, point: Point) -> Job | None:
        """The next run of a configuration, or the base stage that it needs; None while somebody trains
        that."""
        index = point.pending
        assert index is not None
        spec = point.specs[index]
        base = self._bases.awaited(spec)
        if base is None:
            point.flying = index
            self._jobs[spec.trial] = point
            self._budget.begin(spec.trial)
            return Job("trial", spec.trial, spec)
        if not self._bases.begin(base):
            return None
        self._budget.begin(base)
        return Job("base", base, spec)

    def _reported(self, point: Point, index: int, task: int, increments: float | None) -> bool:
        """Keep what a run reports; whether its configuration ends there."""
        if numbers([increments]) is None:  # the first task has no increments; a nan fails the run by itself
            return False
        assert increments is not None
        cell = self._cells[point.place]
        step = index * cell.cell.tasks + task
        cell.report(point, step, float(increments))
        return cell.should_stop(point, step)

    def _ended(
        self,
        point: Point,
        index: int,
        status: str,
        values: Sequence[float | None],
        increments: float | None,
        error: str | None,
    ) -> None:
        """Take in how a run ended, and tell Optuna what the configuration came to once that is known."""
        known = numbers(values)
        if status == "completed" and known is None:
            missing = next(
                (n for n, v in zip(self.study.objectives, values, strict=False) if v is None), None
            )
            status, error = "failed", error or f"{missing or self.study.objective} is no number"
        point.endings[index] = Ending(status, known or ())
        if point.status != "running":
            return
        cell = self._cells[point.place]
        if status == "completed" and self._reported(point, index, cell.cell.tasks - 1, increments):
            status = "stopped"  # between two runs
        if status in ("failed", "stopped"):
            cell.tell(point, status, error)
        elif len(point.endings) == len(point.specs):
            cell.tell(point, "completed")
