"""When a configuration is stopped early: compared within its cell, at task boundaries, at equal task index.

What is reported is the accuracy over the increments: all trials of a cell share the first task, which shows
no forgetting, so it is left out and nobody is stopped before the second task has ended. What is compared is
what it would be at the end if the accuracy stayed where it is: a configuration that learns nothing new keeps
the old classes, begins high and falls for long, which the mean so far hides. On a recorded grid of iCaRL
(tests/search/replay), its rank correlation with the end after four tasks of ten is 0.75, that of the mean so
far 0.62.

A step is a task, 0-based; further runs of a configuration (class orders, seeds) count on. A verdict is a pure
function of the values reported so far, so that after a crash it is the one it was before. Optuna's pruners
are the measure (the tests compare), but keep marks in the journal that a crash between two of its lines
leaves torn, choose hyperband's bracket by the number of asks, and compare the median with a trial's best
value so far, which is its first where accuracy falls from task to task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_core.hparams import digest

FIRST_TASK = 1  # nobody is stopped before this task, 0-based, has ended


@dataclass
class Course:
    """What one configuration reported: step -> the accuracy over the increments of that run so far."""

    number: int
    values: dict[int, float] = field(default_factory=dict)
    completed: bool = False
    audited: int | None = None  # the step at which it would have been stopped, where it runs on as a check


@dataclass(frozen=True)
class Stopper:
    """The stopper of one cell: `tasks` a run, and the class order of every run of a configuration."""

    name: str  # none | asha | hyperband | median | wilcoxon
    args: Mapping[str, Any]
    tasks: int
    orders: Sequence[str]
    worst: bool = False  # whether the worst run stands for a configuration, else the mean
    seed: str = ""  # of hyperband's brackets

    @property
    def last(self) -> int:
        """The last step, after which nothing is left to save."""
        return self.tasks * len(self.orders) - 1

    def should_stop(self, course: Course, step: int, all_courses: Iterable[Course]) -> bool:
        """Whether `course`, which has just reported `step`, is stopped there."""
        run, task = divmod(step, self.tasks)
        if self.name == "none" or task < FIRST_TASK or step >= self.last:
            return False
        own = self.standing(course, step)
        if own is None or max(course.values) > step:  # what went on then is not called back
            return False
        # A trial that runs on as a check has left the race where it was to be stopped.
        rivals = [
            other
            for other in all_courses
            if other.number != course.number and (other.audited is None or other.audited >= step)
        ]
        match self.name:
            case "asha":
                return self._halved(run * (self.tasks - 1) + task, 0, own, step, rivals)
            case "hyperband":
                bracket = self.bracket(course.number)
                mine = [other for other in rivals if self.bracket(other.number) == bracket]
                return self._halved(run * (self.tasks - 1) + task, bracket, own, step, mine)
            case "median":
                known = self._standings(step, (other for other in rivals if other.completed))
                return len(known) >= self.args["n_startup_trials"] and own < float(np.median(known))
            case "wilcoxon":
                return self._outraced(course, step, [other for other in rivals if other.completed])
        raise ValueError(f"no stopper {self.name!r}")

    def standing(self, course: Course, step: int) -> float | None:
        """Mean or worst over the runs before this one, at their end, and this one as `step` foretells it."""
        run = step // self.tasks
        values = [course.values.get(self.tasks * (r + 1) - 1) for r in range(run)]
        values.append(self._foretold(course, step))
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return min(known) if self.worst else math.fsum(known) / len(known)

    def _foretold(self, course: Course, step: int) -> float | None:
        """The accuracy over the increments at the end of a run if it stays where it is at `step`."""
        so_far, before = course.values.get(step), course.values.get(step - 1)
        past, all_ = step % self.tasks, self.tasks - 1
        if so_far is None or past <= FIRST_TASK or before is None:
            return so_far
        now = past * so_far - (past - 1) * before
        return (past * so_far + (all_ - past) * now) / all_

    def bracket(self, number: int) -> int:
        """Hyperband's bracket of a configuration: how many rungs it begins later. Drawn with hyperband's
        shares, from the configuration's number alone.

        Hyperband's resource are increments, over all class orders and seeds of a configuration: more of them
        make more rungs and brackets. They cannot grow within a study that stops, so a
        configuration never changes its bracket.
        """
        factor = self.args["reduction_factor"]
        most = max(1, len(self.orders) * (self.tasks - 1))
        brackets = 1
        while factor**brackets <= most:
            brackets += 1
        shares = [math.ceil(brackets * factor**s / (s + 1)) for s in reversed(range(brackets))]
        place = int(digest([self.seed, number], 8), 16) % sum(shares)
        for bracket, share in enumerate(shares):
            if place < share:
                return bracket
            place -= share
        raise AssertionError("the shares cover every place")

    def _standings(self, step: int, courses: Iterable[Course]) -> list[float]:
        found = (self.standing(course, step) for course in courses)
        return [value for value in found if value is not None]

    def _halved(self, increments: int, late: int, own: float, step: int, rivals: list[Course]) -> bool:
        """Whether a rung after so many increments is passed by others: one in `reduction_factor` goes on,
        the best in any case. Rungs lie after factor^k increments, from k = `late` on."""
        factor = self.args["reduction_factor"]
        rung = factor**late
        while rung < increments:
            rung *= factor
        if rung != increments:
            return False
        known = sorted([*self._standings(step, rivals), own], reverse=True)
        return own < known[self._going_on(len(known), rung, late) - 1]

    def _going_on(self, known: int, rung: int, late: int) -> int:
        """How many of those that reached a rung go on.

        With `gentle`, where one increment is a small part of all, the first rung only stops one in
        `reduction_factor`, and the second makes up for it, so that as few come through both.
        """
        factor = self.args["reduction_factor"]
        many = len(self.orders) * (self.tasks - 1) >= factor**2
        if self.args["gentle"] and many and late == 0 and rung <= factor:
            if rung == 1:
                return math.ceil(known * (factor - 1) / factor)
            return math.ceil(known / (factor * (factor - 1)))
        return max(1, known // factor)

    def _outraced(self, course: Course, step: int, rivals: list[Course]) -> bool:
        """Whether the best of `rivals` is better over the class orders that `course` has ended."""
        if (step + 1) % self.tasks or not rivals:
            return False
        run = step // self.tasks
        if self.orders[run + 1] == self.orders[run]:  # another seed of the same order is still to come
            return False
        best = max(rivals, key=lambda other: (self.standing(other, self.last) or -math.inf, -other.number))
        own, others = self._by_order(course, run), self._by_order(best, run)
        if own is None or others is None:
            return False
        differences = np.subtract(own, others)
        if len(differences) < 2 or differences.mean() >= 0:
            return False
        from scipy.stats import wilcoxon

        found = wilcoxon(differences, alternative="less", zero_method="zsplit")
        return bool(found.pvalue < self.args["p_threshold"])

    def _by_order(self, course: Course, last: int) -> list[float] | None:
        """The mean over seeds at the end of each class order, up to run `last`; None where one is missing."""
        groups: dict[str, list[float]] = {}
        for run in range(last + 1):
            value = course.values.get(self.tasks * (run + 1) - 1)
            if value is None:
                return None
            groups.setdefault(self.orders[run], []).append(value)
        return [math.fsum(values) / len(values) for values in groups.values()]
