"""The queue of a search: which job comes next, and what its end means.

Every cell gets the same budget of trials, base checkpoints go first, and the queue may be interrupted at any
moment. The state lies in two places: the trials in Optuna's storage, the runs that have ended in the tables.
A queue that is opened on a folder reads both and continues (`search.cells.recovery`).

A trial has one run for each class order and seed, trained one after another. Its result is their mean or the
worst of them. When all trials of a cell have ended, the most promising ones and the default are confirmed on
fresh class orders (`search.cells.confirmation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from analysis.lake.run_folder import CHECKPOINTS
from search.cells.audit import mark
from search.cells.cell_progress import TrialStatus, cell_progress
from search.cells.cell_study import CellStudy
from search.cells.confirmation import confirmation_runs
from search.cells.recovery import Recovery, open_cells
from search.cells.trials import Trial
from search.cells.warm_start import Observation
from search.jobs.base_jobs import BaseJobs
from search.jobs.progress import CellProgress
from search.jobs.run_list import RunList
from search.jobs.spending import Spending
from search.jobs.steering import SteeringFile
from search.storage.lock import acquire
from search.worker.job import Answer, Job
from search.worker.progress import remove_progress
from spaces.resolved.study import ResolvedStudy
from spaces.study.budget import BudgetPart

Known = Mapping[str, Mapping[str, Sequence[Observation]]]  # source -> cell -> its trials there


class SearchQueue:
    """The jobs of a search. Opening it takes the lock of the run folder and reads its state.

    With `retry_failed`, failed runs are handed out again. With `bases` off there are no base jobs: the first
    run that needs a base checkpoint trains it. `known` are trials of other studies. `notes` has a line for
    each thing that was damaged. Raises BadRequest if another command works in the folder, or if the Optuna
    studies are out of reach.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        folder: Path,
        *,
        retry_failed: bool = False,
        bases: bool = True,
        checkpoints: Path | None = None,
        spending: Spending | None = None,
        known: Known | None = None,
    ) -> None:
        self.study, self.folder = study, folder
        self._bases = BaseJobs(checkpoints or folder / CHECKPOINTS, lambda spec: study.data, bases)
        self.running: dict[str, Trial] = {}  # by run
        self._confirmations: dict[str, RunList] = {}  # by cell, once its trials have ended
        self._confirming: dict[str, RunList] = {}  # by run
        self._lock = acquire(folder)
        try:
            remove_progress(folder)
            self._spending = spending or Spending(BudgetPart(), folder)
            self._steering = SteeringFile(folder)
            self._studies, self.cells, self.notes = open_cells(study, folder)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._order = {name: index for index, name in enumerate(self.cells)}
            self._recovery = Recovery(study, folder, retry_failed)
            for cell in self.cells.values():
                for trial in cell.trials.values():
                    self._recovery.resume(cell, trial)
            for source, found in (known or {}).items():
                for name, cell in self.cells.items():
                    cell.learn(source, found.get(name, ()))
            for cell in self.cells.values():
                self.notes += self._recovery.recreate(cell)
            trials = [trial for cell in self.cells.values() for trial in cell.trials.values()]
            self._unfinished = [trial for trial in trials if trial.unfinished]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SearchQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock of the folder. The next queue hands out again what is running."""
        try:
            self._studies.close()
        finally:
            if self._lock.is_locked:
                self._lock.release()

    # The contract of a queue.

    def next(self) -> Job | None:
        """Return the next job; None if nothing can start now.

        Trials that have begun go first: their further runs, and after a restart those that were running. Then
        come trials that share the training of one that has ended. Then a new trial begins in the cell with
        the highest priority and the fewest trials, the first in the study's order. A cell whose last trial
        waits for a base checkpoint gets no further one, a paused cell starts nothing, and no cell starts
        anything once the budget is spent.
        """
        if self.halted:
            return None
        for trial in sorted(
            self._unfinished, key=lambda t: (-self._priority(t.cell), t.number, self._order[t.cell])
        ):
            if self._may_continue(trial) and (job := self._start(trial)) is not None:
                return job
        for name in sorted(self.cells, key=lambda n: -self._priority(n)):
            cell = self.cells[name]
            while not self._paused(name) and (found := cell.reusable) is not None:
                if (job := self._begin(cell, cell.reuse(*found))) is not None:
                    return job
        while True:
            waiting = {trial.cell for trial in self._unfinished if trial.pending is not None}
            names = [name for name in self.cells if self._may_grow(name) and name not in waiting]
            if not names:
                return self._next_confirmation()
            cell = self.cells[min(names, key=lambda n: (-self._priority(n), self.cells[n].proposed))]
            if (job := self._begin(cell, cell.new_trial())) is not None:
                return job

    @property
    def halted(self) -> bool:
        """Tell whether the budget is spent: running tasks end, nothing else starts."""
        return self._spending.over is not None

    @property
    def finished(self) -> bool:
        """Tell whether nothing runs and nothing can start any more."""
        if self._bases.running or self.running or self._confirming:
            return False
        return self.halted or not (
            any(self._may_continue(trial) for trial in self._unfinished)
            or any(self._may_grow(name) or self._may_reuse(name) for name in self.cells)
            or any(not self._paused(name) and self._confirmation(name) for name in self.cells)
        )

    @property
    def left(self) -> str | None:
        """The reason why a finished queue has work left; None if all is done."""
        begun = {trial.cell for trial in self._unfinished}
        names = [
            n
            for n, c in self.cells.items()
            if n in begun or c.proposed < c.budget or c.reusable or self._confirmation(n)
        ]
        if not names:
            return None
        paused = [name for name in names if self._paused(name)]
        return self._spending.over or (f"paused: {', '.join(paused)}" if paused else None)

    def report(self, run: str, task: int, increments: float | None) -> bool:
        """Take the accuracy over the increments after a task; return True if the run should stop there."""
        self._spending.reach(run)
        trial = self.running.get(run)
        if trial is None:
            return False
        assert trial.running is not None
        cell = self.cells[trial.cell]
        if trial.lost:  # it ends where it ended before
            return trial.running * cell.cell.tasks + task >= max(trial.course.values)
        self._recovery.catch_up(cell, trial, trial.running, done=task)
        return trial.status == "running" and cell.report(trial, trial.running, task, increments)

    def done(self, answer: Answer) -> None:
        """End a job. One that is not running is ignored, so an end that is reported twice counts once."""
        self._spending.reach(answer.job, end=True)
        if self._bases.end(answer.job):
            return
        if (confirmation := self._confirming.pop(answer.job, None)) is not None:
            confirmation.end(answer.job, answer.status)
            return
        trial = self.running.pop(answer.job, None)
        if trial is None:
            return
        assert trial.running is not None
        run, trial.running = trial.running, None
        cell = self.cells[trial.cell]
        # A run that a crash ended between its last task and its row reports no task any more.
        self._recovery.catch_up(cell, trial, run, done=answer.task, ended=answer.status)
        cell.end_run(trial, run, answer)
        # After the decision at a run's end, which may be the one that lets the trial continue as a check.
        if (task := cell.audited_task(trial, run)) is not None:
            mark(self.folder, answer.job, task)
        if not trial.unfinished:
            self._unfinished.remove(trial)

    def hand_back(self, job: str) -> None:
        """Pause a run here. The next command continues it from its last resume checkpoint."""
        self._spending.reach(job, end=True)
        if (confirmation := self._confirming.pop(job, None)) is not None:
            confirmation.hand_back(job)
        trial = self.running.pop(job, None)
        if trial is not None:
            trial.running = None

    def progress(self) -> list[CellProgress]:
        """Return the progress of every cell, in the study's order."""
        return [
            cell_progress(
                name,
                cell.cell.budget,
                cell.cell.reused,
                [TrialStatus.of(trial) for trial in cell.trials.values()],
                self.study.directions(cell.cell)[self.study.objective],
                self._paused(name),
                cell.cell.seeks,
                *self._confirmed(name),
            )
            for name, cell in self.cells.items()
        ]

    # Starting.

    def _priority(self, cell: str) -> int:
        return self._steering.now.priority.get(cell, 0)

    def _paused(self, cell: str) -> bool:
        return cell in self._steering.now.paused

    def _may_grow(self, name: str) -> bool:
        cell = self.cells[name]
        return cell.proposed < cell.budget and not self._paused(name)

    def _may_reuse(self, name: str) -> bool:
        return not self._paused(name) and self.cells[name].reusable is not None

    def _may_continue(self, trial: Trial) -> bool:
        return trial.pending is not None and not self._paused(trial.cell)

    def _begin(self, cell: CellStudy, trial: Trial) -> Job | None:
        """Take what is known of a new trial; return its first job, None if nothing can start."""
        self._recovery.recall(cell, trial)
        if not trial.unfinished:
            return None
        self._unfinished.append(trial)
        return self._start(trial)

    def _start(self, trial: Trial) -> Job | None:
        """Return the next run of a trial, or the base job that it needs; None while that is running."""
        run = trial.pending
        assert run is not None
        job = self._bases.job(trial.specs[run])
        if job is None:
            return None
        if job.kind == "run":
            trial.running = run
            self.running[job.id] = trial
        self._spending.begin(job.id)
        return job

    def _next_confirmation(self) -> Job | None:
        """Return the next run that confirms a selection, or its base job; None if nothing can start now."""
        for name in sorted(self.cells, key=lambda n: (-self._priority(n), self._order[n])):
            confirmation = None if self._paused(name) else self._confirmation(name)
            for spec in confirmation.pending if confirmation else ():
                if (job := self._bases.job(spec)) is None:
                    continue
                self._spending.begin(job.id)
                if confirmation and job.kind == "run":
                    confirmation.begin(spec.run)
                    self._confirming[spec.run] = confirmation
                return job
        return None

    def _confirmation(self, name: str) -> RunList | None:
        """Return the confirmation of a cell if it has still work; None before its trials have ended."""
        cell = self.cells[name]
        if name not in self._confirmations:
            begun = any(trial.cell == name for trial in self._unfinished)
            if cell.cell.confirm is None or begun or cell.proposed < cell.budget or cell.reusable:
                return None
            recovery = self._recovery
            self._confirmations[name] = RunList(confirmation_runs(cell), recovery.rows, recovery.retry_failed)
        confirmation = self._confirmations[name]
        return confirmation if confirmation.unfinished else None

    def _confirmed(self, name: str) -> tuple[int, int]:
        """Return how many runs confirm a cell, at most until they are known, and how many have ended."""
        self._confirmation(name)
        known = self._confirmations.get(name)
        return (len(known.specs), len(known.ended)) if known else (self.cells[name].cell.confirmation_runs, 0)
