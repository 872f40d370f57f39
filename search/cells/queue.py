"""The search itself: which job comes next, and what an end means; equal budgets; bases first; safe to
interrupt.

What is true lies in two places: which configurations were asked, and what they came to, in Optuna's storage;
which runs have ended in the tables. A `Cells` that is opened on a folder reads both and goes on. Where the
storage is damaged or gone, it is made anew from the tables.

A configuration has one run for each class order and seed, carried out one after another; it is told the
mean or the worst of them. Its trial in the cell's Optuna study is PRUNED when it is stopped and FAIL when a
run fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cl_core.errors import ClSearchError, named_line
from search.cells.audit import mark
from search.cells.cell_study import CellStudy
from search.cells.recovery import configurations, increments_of
from search.cells.standing import Standing, counted
from search.cells.trials import Ending, Point, numbers
from search.cells.warm_start import Observation
from search.jobs.progress import CellProgress
from search.jobs.queue import Bases, Job
from search.jobs.spending import Budget
from search.jobs.steering import Control
from search.lake.writer import recorded
from search.storage.database import damaged
from search.storage.journal import DamagedStudies
from search.storage.repair import set_aside
from search.storage.run_folder import JOURNAL, Studies, acquire, open_studies
from search.worker.runner import INCREMENTS
from spaces.resolved.study import ResolvedStudy
from spaces.study.budget import BudgetPart

Known = Mapping[str, Mapping[str, Sequence[Observation]]]  # source -> cell -> what it found


class Cells:
    """Every cell's search. Opening it takes the lock of the run's folder and takes up what stands there.

    With `retry_failed` runs that failed are handed out again. `bases` off hands out no base checkpoints: the
    first run that needs one trains it. `known` is what other runs have found. Raises BadRequest when another
    run works in the folder, or its studies are out of reach. `notes` says what was damaged, a line each.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        folder: Path,
        *,
        retry_failed: bool = False,
        bases: bool = True,
        checkpoints: Path | None = None,
        budget: Budget | None = None,
        known: Known | None = None,
    ) -> None:
        self.study = study
        self.folder = folder
        self.checkpoints = checkpoints or folder / "checkpoints"
        self._bases = Bases(self.checkpoints, lambda spec: study.data, bases)
        self._jobs: dict[str, Point] = {}  # id of a run under way -> its configuration
        self._unfinished: list[Point] = []
        self._retry_failed = retry_failed
        self.notes: list[str] = []
        self._lock = acquire(folder)
        try:
            self._budget = budget or Budget(BudgetPart(), folder)
            self._control = Control(folder)
            self._rows = recorded(folder)
            try:
                self._studies = self._open()
            except DamagedStudies as error:
                self.notes.append(self._set_aside(error))
                self._studies = self._open()
        except BaseException:
            self._lock.release()
            raise
        try:
            for cell, points in zip(self._cells, self._points, strict=True):
                for point in points.values():
                    self._resume(cell, point)
            for source, found in (known or {}).items():
                for cell in self._cells:
                    cell.learn(source, found.get(cell.cell.name, ()))
            for cell in self._cells:
                self._make_anew(cell)
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
        order. A cell whose last configuration waits for a base checkpoint is not asked for another, a paused
        one for nothing, and no cell once the budget is spent.
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
        """Tell whether the budget is spent: running tasks end, nothing else starts."""
        return self._budget.over is not None

    @property
    def finished(self) -> bool:
        """Tell whether nothing is under way and nothing can start any more."""
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
        if point is None:
            return False
        assert point.flying is not None
        if point.lost:  # it ends where it ended
            step = point.flying * self._cells[point.place].cell.tasks + task
            return step >= max(self._course(point))
        return point.status == "running" and self._reported(point, point.flying, task, increments)

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

    def _open(self) -> Studies:
        """Open the studies and read back what each cell was asked. Raises DamagedStudies."""
        studies = open_studies(self.folder, self.study.study.storage)
        try:
            names = studies.ids()
            self._cells = [
                CellStudy(studies.storage, self.study, place, cell, names, studies.prefix)
                for place, cell in enumerate(self.study.cells)
            ]
            self._points = [cell.take_up() for cell in self._cells]
        except (LookupError, TypeError, ValueError) as error:
            studies.close()
            if isinstance(error, ClSearchError):
                raise
            if studies.file is None:
                raise damaged(self.study.study.storage.optuna, named_line(error)) from error
            raise DamagedStudies(studies.file, named_line(error)) from error
        except BaseException:
            studies.close()
            raise
        return studies

    def _resume(self, cell: CellStudy, point: Point) -> None:
        """Take in what a configuration came to according to the tables, and what of it has still to run."""
        if (point.status == "failed" and self._retry_failed) or self._unexplained(point):
            cell.again(point)
        if point.status == "stopped":
            last = max(cell.courses[point.number].values) // cell.cell.tasks
            point.lost = {i for i, spec in enumerate(point.specs[: last + 1]) if spec.run not in self._rows}
        self._recall(cell, point, self._retry_failed)
        if point.unfinished:
            self._unfinished.append(point)

    def _unexplained(self, point: Point) -> bool:
        """Tell whether the rows that say why a configuration ended are gone."""
        if point.status == "stopped":
            return not self._course(point)
        if point.status != "failed":
            return False
        rows = [self._rows[spec.run] for spec in point.specs if spec.run in self._rows]
        return all(  # a run that failed has values too, of the tasks before
            row["status"] != "failed" and numbers([row[name] for name in self.study.objectives]) is not None
            for row in rows
        )

    def _make_anew(self, cell: CellStudy) -> None:
        """Ask for the configurations of which the tables have rows and the studies know nothing."""
        points, rows = self._points[cell.place], self._rows.values()
        known = configurations(self.study, cell.cell, rows, first=len(points))
        for number in range(len(points), min(max(known, default=-1) + 1, cell.cell.budget)):
            points[number] = cell.ask(number, known.get(number))
            self._recall(cell, points[number], self._retry_failed)
            if points[number].unfinished:
                self._unfinished.append(points[number])

    def _set_aside(self, error: DamagedStudies) -> str:
        for path in {error.path, self.folder / JOURNAL}:  # where it is kept here, its copy is no better
            if path.exists():
                aside = set_aside(self.folder, path)
        return (
            f"{error.path} was damaged ({error.reason}): it lies in {aside.parent} now, and is made anew "
            "from the tables"
        )

    def _recall(self, cell: CellStudy, point: Point, retry_failed: bool) -> None:
        """Take in the runs of a configuration that have ended according to the tables.

        A configuration that was asked just now has such rows where the studies are older than the tables:
        the driver's machine was lost with the last seconds of its journal.
        """
        if point.status in ("stopped", "failed"):
            return
        begun = cell.retried_since(point)
        for index, spec in enumerate(point.specs):
            row = self._rows.get(spec.run)
            if row is None or row["trial_digest"] != spec.trial_digest:
                continue
            status = str(row["status"])
            if status == "failed" and (retry_failed or (row["ended"] or 0.0) < begun):
                continue  # the failure that is being tried again
            values = [row[name] for name in self.study.objectives]
            self._repeat(point, index, row)
            self._ended(point, index, status, values, row[INCREMENTS], row["error"])
            task = cell.audited_task(point, index)
            if task is not None and row["audited_after"] is None:
                mark(self.folder, spec.run, task, row)

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
        """The next run of a configuration, or the base checkpoint that it needs; None while somebody trains
        that."""
        index = point.pending
        assert index is not None
        spec = point.specs[index]
        base = self._bases.awaited(spec)
        if base is None:
            point.flying = index
            self._jobs[spec.run] = point
            self._budget.begin(spec.run)
            return Job("run", spec.run, spec)
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
        point.lost.discard(index)
        if point.status != "running":
            return
        cell = self._cells[point.place]
        if status == "completed" and self._reported(point, index, cell.cell.tasks - 1, increments):
            status = "stopped"  # between two runs
        if status in ("failed", "stopped"):
            cell.tell(point, status, error)
        elif len(point.endings) == len(point.specs):
            cell.tell(point, "completed")
