"""One cell in the Optuna storage: asked, reported to, told; read back after a crash.

The cell's study holds every configuration. What stopping compares, the accuracy over the increments, lies in
it as intermediate values where it can: with several objectives Optuna takes none, and with one that is
minimised they would point the other way. Then a second study of one objective, named "<cell>/stopping", holds
them and what they came to, and the first is told PRUNED as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from cl_core.hparams import digest
from search.cells.samplers import planned, sampler
from search.cells.stoppers import Course, Stopper
from search.cells.trials import Point, aggregated
from search.cells.warm_start import Observation
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values

# User attributes of an Optuna trial. Without a number, an ask never happened.
NUMBER, CONFIG, ERROR, RETRY, AUDITED, SOURCE, OF = (
    "number", "config", "error", "retry", "audited", "source", "of",
)  # fmt: skip
STATUS = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
_TOLD = {status: state for state, status in STATUS.items()}


def asked(storage: BaseStorage, study_id: int) -> dict[int, Values]:
    """Every configuration that a cell was asked, by number, its values as they were sampled."""
    found: dict[int, Values] = {}
    for trial in storage.get_all_trials(study_id, deepcopy=False):
        if NUMBER in trial.user_attrs:
            found[int(trial.user_attrs[NUMBER])] = dict(trial.user_attrs[CONFIG])
    return found


class CellStudy:
    """A cell's studies and courses. Nothing is held here that the storage does not hold.

    `known` are the names of the run's studies that stand in it, without `prefix`.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: ResolvedStudy,
        place: int,
        cell: Cell,
        known: Collection[str],
        prefix: str = "",
    ) -> None:
        self.study, self.place, self.cell = study, place, cell
        self._prefix = prefix  # of the names of the run's studies in this storage
        search, protocol = study.study.search, study.study.protocol
        self._storage = storage
        self._worst = protocol.aggregate == "worst"
        directions = list(study.directions(cell).values())
        self.optuna = self._open(cell.name, directions, known)
        self._beside: optuna.Study | None = None
        self._reports = directions == ["max"]
        # Where class orders are searched, one that falls behind may be the one that is wanted.
        stopper = "none" if cell.seeks else search.stopper
        if stopper != "none" and not self._reports:
            self._beside = self._open(f"{cell.name}/stopping", ["max"], known)
        self._holders: dict[int, int] = {}  # number -> id of the trial beside
        self.stopper = Stopper(
            stopper,
            search.stopper_args,
            cell.tasks,
            [order for order, _ in study.runs(cell)],
            self._worst,
            f"{search.seed} {cell.name}",
        )
        self.courses: dict[int, Course] = {}

    def _open(self, name: str, directions: Sequence[str], known: Collection[str]) -> optuna.Study:
        unused = RandomSampler(seed=0)  # every ask brings its own
        if name in known:  # creating it anew would add a line to the journal at every start
            return optuna.load_study(study_name=self._prefix + name, storage=self._storage, sampler=unused)
        return optuna.create_study(
            study_name=self._prefix + name,
            storage=self._storage,
            directions=["maximize" if direction == "max" else "minimize" for direction in directions],
            sampler=unused,
        )

    # Reading back.

    def take_up(self) -> dict[int, Point]:
        """Every configuration that was asked, by number, with its course; asks that a crash cut short end."""
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self.optuna.tell(self.optuna.ask(), state=TrialState.FAIL)
            elif trial.state == TrialState.RUNNING and NUMBER not in trial.user_attrs:
                self.optuna.tell(trial.number, state=TrialState.FAIL)
        points: dict[int, Point] = {}
        for trial in self.optuna.get_trials(deepcopy=False):
            if NUMBER in trial.user_attrs:
                point = self._point(trial)
                points[point.number] = point  # a later trial of the same number supersedes
                self._course(point, trial, trial.intermediate_values)
        for trial in self._beside.get_trials(deepcopy=False) if self._beside else ():
            point = points[int(trial.user_attrs[NUMBER])]
            if trial.user_attrs[OF] == point.trial:
                self._holders[point.number] = trial._trial_id
                self.courses[point.number].values.update(trial.intermediate_values)
        if sorted(points) != list(range(len(points))):
            raise KeyError(f"{self.cell.name} has configurations {sorted(points)}, not 0 and on, each once")
        return points

    def _point(self, trial: FrozenTrial) -> Point:
        number, config = int(trial.user_attrs[NUMBER]), dict(trial.user_attrs[CONFIG])
        values = tuple(trial.values) if trial.state == TrialState.COMPLETE else None
        status = STATUS.get(trial.state, "running")
        ids = trial.number, trial._trial_id
        return Point(
            self.place, number, config, self.study.run_specs(self.cell, number, config), *ids, status, values
        )

    def _course(self, point: Point, trial: FrozenTrial, values: Mapping[int, float]) -> None:
        self.courses[point.number] = Course(
            point.number, dict(values), point.status == "completed", trial.user_attrs.get(AUDITED)
        )

    def retried_since(self, point: Point) -> float:
        """When a configuration that had failed was taken up again, as Unix time; 0 where it was not."""
        trial = self._storage.get_trial(point.trial_id)
        begun = trial.datetime_start if RETRY in trial.user_attrs else None
        return begun.timestamp() if begun else 0.0

    # Asking.

    def ask(self, number: int, known: Values | None = None) -> Point:
        """The `number`-th configuration: the one that is `known` or planned, else the sampler's."""
        plan = known or planned(self.study.study.search, self.cell, number)
        return self._ask(number, plan, {})

    def again(self, point: Point) -> None:
        """A new Optuna trial for a configuration that failed."""
        fresh = self._ask(point.number, point.config, {RETRY: True})
        point.trial, point.trial_id, point.status = fresh.trial, fresh.trial_id, "running"

    def _ask(self, number: int, config: Values | None, attributes: Mapping[str, Any]) -> Point:
        if config is not None:
            self.optuna.enqueue_trial(self.cell.space.searched_in(config))
        self.optuna.sampler = sampler(self.study.study.search, self.cell, number)
        trial = self.optuna.ask()
        config = self.cell.space.sample_with(trial)
        for name, value in {**attributes, CONFIG: config, NUMBER: number}.items():
            trial.set_user_attr(name, value)
        self._holders.pop(number, None)
        self.courses[number] = Course(number)
        specs = self.study.run_specs(self.cell, number, config)
        return Point(self.place, number, config, specs, trial.number, trial._trial_id)

    def learn(self, source: str, observations: Sequence[Observation]) -> None:
        """Make trials of another run known to the sampler, each once."""
        done = self.optuna.user_attrs.get(SOURCE, [])
        if source in done:
            return
        trials = self.optuna.get_trials(deepcopy=False)
        known = {trial.user_attrs.get(SOURCE) for trial in trials}
        for seen in observations:
            if f"{source}: {seen.trial}" not in known:
                fixed = optuna.trial.FixedTrial(dict(self.cell.space.searched_in(seen.config)))
                self.cell.space.sample_with(fixed)
                self.optuna.add_trial(
                    create_trial(
                        params=fixed.params,
                        distributions=fixed.distributions,
                        values=list(seen.values),
                        user_attrs={SOURCE: f"{source}: {seen.trial}"},
                    )
                )
        self.optuna.set_user_attr(SOURCE, [*done, source])

    def has_learnt(self, source: str) -> bool:
        """Whether the trials of another run are all known."""
        return source in self.optuna.user_attrs.get(SOURCE, [])

    # Reporting and telling.

    def report(self, point: Point, step: int, increments: float) -> None:
        """Keep the accuracy over the increments after a step; a run that is handed out again repeats
        itself, so what stands is kept."""
        course = self.courses[point.number]
        if step in course.values:
            return
        if self._reports:
            self._storage.set_trial_intermediate_value(point.trial_id, step, increments)
        elif self._beside is not None:
            self._storage.set_trial_intermediate_value(self._holder(point), step, increments)
        course.values[step] = increments

    def should_stop(self, point: Point, step: int) -> bool:
        """Whether the configuration ends after `step`. Of those that would, a share runs on as a check."""
        course = self.courses[point.number]
        if course.audited is not None or not self.stopper.should_stop(course, step, self.courses.values()):
            return False
        search = self.study.study.search
        drawn = int(digest([search.seed, self.cell.name, point.number, "audit"], 8), 16) / 16**8
        if drawn < search.audit:
            self._storage.set_trial_user_attr(point.trial_id, AUDITED, step)
            course.audited = step
            return False
        return True

    def audited_task(self, point: Point, run: int) -> int | None:
        """The task of a run after which it would have been stopped, where it runs on as a check."""
        step = self.courses[point.number].audited
        if step is None or step // self.cell.tasks != run:
            return None
        return step % self.cell.tasks

    def tell(self, point: Point, status: str, error: str | None = None) -> None:
        """Tell Optuna what a configuration came to: completed, stopped or failed."""
        if status == "completed":
            runs = [point.endings[index].values for index in range(len(point.specs))]
            point.values = aggregated(runs, self.study.objectives, self._worst)
        if status == "failed" and error:
            self._storage.set_trial_user_attr(point.trial_id, ERROR, error)
        course, state = self.courses[point.number], _TOLD[status]
        holder = self._holders.get(point.number)
        if self._beside is not None and holder is not None:
            beside = self._storage.get_trial(holder)
            if not beside.state.is_finished():
                value = self.stopper.standing(course, self.stopper.last) if status == "completed" else None
                self._beside.tell(
                    beside.number,
                    value,
                    TrialState.FAIL if status == "completed" and value is None else state,
                )
        self.optuna.tell(point.trial, list(point.values) if point.values else None, state)
        point.status = status
        course.completed = status == "completed"

    def _holder(self, point: Point) -> int:
        assert self._beside is not None
        if point.number not in self._holders:
            trial = self._storage.get_trial(point.trial_id)
            template = create_trial(
                state=TrialState.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={NUMBER: point.number, OF: point.trial},
            )
            self._holders[point.number] = self._storage.create_new_trial(self._beside._study_id, template)
        return self._holders[point.number]
