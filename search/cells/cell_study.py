"""One cell in the Optuna storage: its trials are sampled, reported and ended there, and read back later.

The cell's Optuna study holds every trial. Its state is PRUNED if the trial was stopped, and FAIL if one of
its runs failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from cl_core.hparams import digest
from cl_core.records import REUSED, trained_by
from search.cells.class_order_effect import effect
from search.cells.samplers import planned, sampler
from search.cells.stoppers import Course, Standings, Stopper
from search.cells.stopping_study import StoppingStudy
from search.cells.stored_trial import AUDITED, ERROR, NUMBER, PICKED, RETRY, SOURCE, STATUS, VALUES
from search.cells.trials import RunEnd, Trial, finite
from search.cells.warm_start import Observation
from search.worker.job import Answer
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.answers import other_answers
from spaces.space.space import Values

_STATES = {status: state for state, status in STATUS.items()}


class CellStudy:
    """A cell's Optuna studies and its trials, all of which the storage holds as well.

    `known` are the names of the studies that exist, without `prefix`.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: ResolvedStudy,
        cell: Cell,
        known: Collection[str],
        prefix: str = "",
    ) -> None:
        self.study, self.cell = study, cell
        self.trials: dict[int, Trial] = {}
        self._proposed = 0  # of trials, at least
        self._shared: dict[int, None] = {}  # trials that others may still share
        self._in_rows: dict[int, Values | None] = {}  # trials still to begin, by number
        self.budget = cell.budget
        self._storage, self._prefix = storage, prefix
        search, protocol = study.study.search, study.study.protocol
        self._worst = protocol.aggregate == "worst"
        self._turns = study.turns(cell)
        self._selects = protocol.select_on != "fixed"
        directions = list(study.directions(cell).values())
        self.optuna = self._open(cell.name, directions, known)
        self._reports = directions == ["max"]
        self._stopping: StoppingStudy | None = None
        # Where class orders are searched, one that falls behind may be the one that is wanted.
        stopper = "none" if cell.seeks else search.stopper
        if stopper != "none" and not self._reports:
            self._stopping = StoppingStudy(self._open(f"{cell.name}/stopping", ["max"], known), storage)
        self.stopper = Stopper(
            stopper,
            search.stopper_args,
            cell.tasks,
            [order for order, _ in study.runs(cell)],
            self._worst,
            self._turns,
            f"{search.seed} {cell.name}",
        )
        self._load()
        self._standings = Standings(self.stopper, (trial.course for trial in self.trials.values()))

    def _open(self, name: str, directions: Sequence[str], known: Collection[str]) -> optuna.Study:
        unused = RandomSampler(seed=0)  # every trial brings its own
        if name in known:  # creating it again would add a line to the journal at every start
            return optuna.load_study(study_name=self._prefix + name, storage=self._storage, sampler=unused)
        return optuna.create_study(
            study_name=self._prefix + name,
            storage=self._storage,
            directions=["maximize" if direction == "max" else "minimize" for direction in directions],
            sampler=unused,
        )

    # Reading back.

    def _load(self) -> None:
        """Read the trials back, with their courses. An Optuna trial that a crash cut short fails."""
        for stored in self.optuna.get_trials(deepcopy=False):
            if stored.state == TrialState.WAITING:
                self.optuna.tell(self.optuna.ask(), state=TrialState.FAIL)
            elif stored.state == TrialState.RUNNING and NUMBER not in stored.user_attrs:
                self.optuna.tell(stored.number, state=TrialState.FAIL)
        for stored in self.optuna.get_trials(deepcopy=False):
            if NUMBER in stored.user_attrs:
                trial = self._trial(stored)
                self.trials[trial.number] = trial  # of two with the same number, the later one counts
        if self._stopping is not None:
            self._stopping.load(self.trials)
        own = [number for number in self.trials if number < REUSED]
        self._shared = dict.fromkeys(own)
        if sorted(own) != list(range(len(own))):
            raise KeyError(f"{self.cell.name} has trials {sorted(self.trials)}, not 0 and on, each once")

    def _trial(self, stored: FrozenTrial) -> Trial:
        number, values = int(stored.user_attrs[NUMBER]), dict(stored.user_attrs[VALUES])
        status = STATUS.get(stored.state, "running")
        completed = status == "completed"
        return Trial(
            self.cell.name,
            number,
            values,
            self.study.run_specs(self.cell, number, values),
            stored.number,
            stored._trial_id,
            Course(number, dict(stored.intermediate_values), completed, stored.user_attrs.get(AUDITED)),
            status,
            tuple(stored.values) if completed else None,
        )

    def retried_since(self, trial: Trial) -> float:
        """Return when a failed trial was tried again, as Unix time; 0 if it was not."""
        stored = self._storage.get_trial(trial.optuna_id)
        begun = stored.datetime_start if RETRY in stored.user_attrs else None
        return begun.timestamp() if begun else 0.0

    # New trials.

    @property
    def proposed(self) -> int:
        """The number of trials so far, without those that share the training of another."""
        while self._proposed in self.trials:
            self._proposed += 1
        return self._proposed

    @property
    def reusable(self) -> tuple[int, Values] | None:
        """Number and values of the next trial that shares the training of one that has ended, if any."""
        last = self.cell.reused * REUSED
        for number in list(self._shared) if last else ():
            trial = self.trials[number]
            if trial.unfinished:
                continue
            if not trial.failed and number + last not in self.trials:
                for index, values in enumerate(other_answers(self.cell.answers, trial.values), 1):
                    if (reused := number + index * REUSED) not in self.trials:
                        return reused, values
            del self._shared[number]
        return None

    def reuse(self, number: int, values: Values) -> Trial:
        """Begin a trial that shares the training of another."""
        self.trials[number] = trial = self._ask(number, values, {})
        return trial

    def expect(self, known: Mapping[int, Values | None]) -> None:
        """Begin trials that have rows with their `known` values, in their turn.

        There may be more of them than the budget has, which a later confirmation lowers.
        """
        self._in_rows = dict(known)
        self.budget = max(self.cell.budget, max(known, default=-1) + 1)

    def new_trial(self) -> Trial:
        """Begin the next trial, with values that are expected or planned, else with the sampler's."""
        number = self.proposed
        known = self._in_rows.pop(number, None)
        values = known or planned(self.study.study.search, self.cell, number, self._turns)
        self.trials[number] = trial = self._ask(number, values, {})
        self._shared[number] = None
        return trial

    def retry(self, trial: Trial) -> None:
        """Begin a trial again that has failed, as a new Optuna trial."""
        fresh = self._ask(trial.number, trial.values, {RETRY: True})
        trial.optuna_number, trial.optuna_id = fresh.optuna_number, fresh.optuna_id
        trial.course, trial.status = fresh.course, "running"
        self._standings.forget(trial.number)

    def _ask(self, number: int, values: Values | None, attributes: Mapping[str, Any]) -> Trial:
        if values is not None:
            self.optuna.enqueue_trial(self.cell.space.searched_in(values))
        self.optuna.sampler = sampler(self.study.study.search, self.cell, number)
        asked = self.optuna.ask()
        values = self.cell.space.sample_with(asked)
        for name, value in {**attributes, VALUES: values, NUMBER: number}.items():
            asked.set_user_attr(name, value)
        if self._stopping is not None:
            self._stopping.forget(number)
        ids = asked.number, asked._trial_id
        return Trial(
            self.cell.name,
            number,
            values,
            self.study.run_specs(self.cell, number, values),
            *ids,
            Course(number),
        )

    def learn(self, source: str, observations: Sequence[Observation]) -> None:
        """Add trials of another study to this one, each once, so that the sampler knows them."""
        done = self.optuna.user_attrs.get(SOURCE, [])
        if source in done:
            return
        known = {stored.user_attrs.get(SOURCE) for stored in self.optuna.get_trials(deepcopy=False)}
        for seen in observations:
            if f"{source}: {seen.run}" not in known:
                fixed = optuna.trial.FixedTrial(dict(self.cell.space.searched_in(seen.values)))
                self.cell.space.sample_with(fixed)
                self.optuna.add_trial(
                    create_trial(
                        params=fixed.params,
                        distributions=fixed.distributions,
                        values=list(seen.objectives),
                        user_attrs={SOURCE: f"{source}: {seen.run}"},
                    )
                )
        self.optuna.set_user_attr(SOURCE, [*done, source])

    @property
    def picked(self) -> dict[str, Any] | None:
        """The trials picked to be confirmed, as they are stored; None before."""
        found: dict[str, Any] | None = self.optuna.user_attrs.get(PICKED)
        return found

    def pick(self, trials: Mapping[str, Any]) -> None:
        """Store the trials to confirm."""
        self.optuna.set_user_attr(PICKED, dict(trials))

    # Runs report and end.

    def report(self, trial: Trial, run: int, task: int, increments: float | None) -> bool:
        """Keep the accuracy over the increments after a task; return True if the trial is stopped there.

        A run that is handed out again repeats its values, so those that are known stay.
        """
        # The first task has no increments. NaN fails the run by itself.
        if increments is None or finite([increments]) is None:
            return False
        step = run * self.cell.tasks + task
        if step not in trial.course.values:
            if self._reports:
                self._storage.set_trial_intermediate_value(trial.optuna_id, step, float(increments))
            elif self._stopping is not None:
                self._stopping.report(trial, step, float(increments))
            trial.course.values[step] = float(increments)
            self._standings.reach(trial.course, step)
        return self._should_stop(trial, step)

    def _should_stop(self, trial: Trial, step: int) -> bool:
        """Tell whether a trial ends after `step`. A share of those that would continues as a check."""
        course = trial.course
        courses = (other.course for other in self.trials.values())
        if course.audited is not None or not self.stopper.should_stop(course, step, courses, self._standings):
            return False
        search = self.study.study.search
        drawn = int(digest([search.seed, self.cell.name, trial.number, "audit"], 8), 16) / 16**8
        if drawn < search.audit:
            self._storage.set_trial_user_attr(trial.optuna_id, AUDITED, step)
            course.audited = step
            return False
        return True

    def audited_task(self, trial: Trial, run: int) -> int | None:
        """Return the task of a run after which it would have been stopped, if it continues as a check."""
        step = trial.course.audited
        if step is None or step // self.cell.tasks != run:
            return None
        return step % self.cell.tasks

    def end_run(self, trial: Trial, run: int, answer: Answer) -> None:
        """Take the last answer of a run, and end the trial in Optuna once its result is known."""
        known, status, error = finite(answer.values), answer.status, answer.error
        if status == "completed" and known is None:
            names = self.study.objectives
            missing = next((n for n, v in zip(names, answer.values, strict=False) if v is None), None)
            what = missing or self.study.objective
            status, error = "failed", error or f"objective {what!r} is missing or NaN"
        trial.ends[run] = RunEnd(status, known or ())
        trial.lost.discard(run)
        if trial.status == "running":
            if status == "completed" and self.report(trial, run, self.cell.tasks - 1, answer.increments):
                status = "stopped"  # between two runs
            if status == "failed" and error:
                self._storage.set_trial_user_attr(trial.optuna_id, ERROR, error)
            # Where nothing is selected, the other class orders are still worth measuring.
            lost = trial.failed and (self._selects or trial.pending is None)
            if lost or status == "stopped":
                self._end(trial, "failed" if lost else status)
            else:
                self._complete(trial)
        if self._turns > 1 and trial.number < self._turns and not trial.unfinished:
            for other in self.trials.values():  # those that waited for the effect of their class order
                if other.status == "running":
                    self._complete(other)

    def _complete(self, trial: Trial) -> None:
        """End a trial in Optuna if all of its runs have completed and its class order can be compared."""
        measured = self._measured(trial.number)
        turn = trained_by(trial.number) % self._turns
        if measured is None or (turn and any(self.trials[default].unfinished for default in (0, turn))):
            return
        by_order = effect(trial.number, self._measured, self._turns, self.study.objectives)
        trial.objectives = tuple(value - of for value, of in zip(measured, by_order, strict=True))
        self._end(trial, "completed")

    def _measured(self, number: int) -> tuple[float, ...] | None:
        return self.trials[number].measured(self.study.objectives, self._worst)

    def _end(self, trial: Trial, status: str) -> None:
        """End a trial in Optuna: completed, stopped or failed."""
        state = _STATES[status]
        if self._stopping is not None:
            self._stopping.end(trial, state, self.stopper.standing(trial.course, self.stopper.last))
        self.optuna.tell(trial.optuna_number, list(trial.objectives) if trial.objectives else None, state)
        trial.status = status
        trial.course.completed = status == "completed"
        if trial.course.completed:
            self._standings.take(trial.course)
