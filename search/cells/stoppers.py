"""Stoppers: they end a trial early, compared within its cell after the same number of tasks.

A run reports the accuracy over the increments. The first task is left out: all trials of a cell share it, and
it shows no forgetting. So no trial is stopped before the second task has ended. What is compared is the value
at the end if the accuracy stayed as it is. A trial that learns nothing new keeps the old classes, begins high
and falls for long, which the mean so far hides. On a recorded grid of iCaRL (tests/search/replay) the rank
correlation with the end, after four tasks of ten, is 0.75; that of the mean so far is 0.62.

Where trials take class orders in turn, only those on the same one are compared. Trials that share the
training of another one (`search.reuse`) are no rivals, and are not stopped before a task that is not trained.

A step is a task, 0-based; further runs of a trial (class orders, seeds) count on. A decision is a pure
function of the values reported so far, so it is the same after a crash. Optuna's pruners are the measure (the
tests compare). But they keep marks in the journal that a crash can cut in two, and choose hyperband's bracket
by the order of trials. They compare the median with a trial's best value so far, which is its first one when
accuracy falls from task to task.

The race (`wilcoxon`) stops a trial that is no worse than the others with a probability of at most
`p_threshold`, over all class orders after which it looks. Two things would make it more. A look after every
order is a chance of its own, so each look that can stop a trial gets an equal share of the threshold
(Bonferroni). And the best of many rivals looks better than it is. So the rival is chosen by the orders still
to come, which it has completed, and compared over the orders that have ended.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy

from cl_core.hparams import digest
from cl_core.records import REUSED, trained_by

FIRST_TASK = 1  # no trial is stopped before this task, 0-based, has ended


@dataclass
class Course:
    """The values that one trial reported: step -> accuracy over the increments of that run so far."""

    number: int
    values: dict[int, float] = field(default_factory=dict)
    completed: bool = False
    audited: int | None = None  # the step at which it would have been stopped, if it continues as a check


class Rung(NamedTuple):
    """A comparison: of trials on one class order (`turn`), in one bracket of hyperband, after one step."""

    step: int
    turn: int
    late: int = 0  # rungs that the bracket skips at the beginning
    increments: int = 0  # over all runs so far

    def takes(self, course: Course, turns: int) -> bool:
        """Tell whether a trial counts here.

        One that shares a training does not, nor one that continues as a check after its end was decided.
        """
        if course.number >= REUSED or course.number % turns != self.turn:
            return False
        return course.audited is None or course.audited >= self.step


@dataclass(frozen=True)
class Stopper:
    """The stopper of one cell: the tasks of a run, and the class order of every run of a trial."""

    name: str  # none | asha | hyperband | median | wilcoxon
    args: Mapping[str, Any]
    tasks: int
    orders: Sequence[str]
    worst: bool = False  # a trial's result is its worst run, else the mean
    turns: int = 1  # class orders that trials take in turn
    seed: str = ""  # of hyperband's brackets

    @property
    def last(self) -> int:
        """The last step, after which nothing is left to save."""
        return self.tasks * len(self.orders) - 1

    def should_stop(
        self, course: Course, step: int, courses: Iterable[Course], standings: Standings | None = None
    ) -> bool:
        """Tell whether the trial that has just reported `step` is stopped there.

        `courses` are those of the cell, `standings` theirs, made here if they are not given.
        """
        task = step % self.tasks
        if self.name == "none" or task < FIRST_TASK or step >= self.last:
            return False
        own = self.standing(course, step)
        if own is None or max(course.values) > step:  # what continued then is not stopped now
            return False
        if self.turns > 1 and course.number < self.turns:  # the default, by which class orders compare
            return False
        rung = self.rung(course.number, step)
        if rung is None:
            return False
        if course.number >= REUSED or standings is None or self.name == "wilcoxon":
            courses = list(courses)
        if course.number >= REUSED:
            trained = next((other for other in courses if other.number == trained_by(course.number)), course)
            if step < max(trained.values, default=-1):  # the next task is trained
                return False
        if self.name == "wilcoxon":
            rivals = [
                other
                for other in courses
                if other.completed and other.number != course.number and rung.takes(other, self.turns)
            ]
            return self._outraced(course, step, rivals)
        others = (standings or Standings(self, courses)).others(rung, course.number)
        if self.name == "median":
            count = len(others)
            middle = (others[(count - 1) // 2] + others[count // 2]) / 2 if count else own
            return count >= self.args["n_startup_trials"] and own < middle
        return self._halved(rung, own, others)

    def rung(self, number: int, step: int) -> Rung | None:
        """Return where a trial is compared after a step; None if it is not. `median` compares always."""
        run, task = divmod(step, self.tasks)
        if task < FIRST_TASK or step >= self.last:
            return None
        turn = trained_by(number) % self.turns
        match self.name:
            case "none":
                return None
            case "median":
                return Rung(step, turn)
            case "wilcoxon":
                return Rung(step, turn) if task == self.tasks - 1 else None
            case "asha" | "hyperband":
                increments, factor = run * (self.tasks - 1) + task, self.args["reduction_factor"]
                late = self.bracket(number) if self.name == "hyperband" else 0
                rung = factor**late
                while rung < increments:
                    rung *= factor
                return Rung(step, turn, late, increments) if rung == increments else None
        raise ValueError(f"unknown stopper {self.name!r}")

    def standing(self, course: Course, step: int) -> float | None:
        """Return the mean or worst over the earlier runs and this one, whose end is predicted from `step`."""
        run = step // self.tasks
        values = [course.values.get(self.tasks * (r + 1) - 1) for r in range(run)]
        values.append(self._predicted(course, step))
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return min(known) if self.worst else math.fsum(known) / len(known)

    def _predicted(self, course: Course, step: int) -> float | None:
        """Return the accuracy over the increments at the end of a run if accuracy stays as at `step`."""
        so_far, before = course.values.get(step), course.values.get(step - 1)
        past, all_ = step % self.tasks, self.tasks - 1
        if so_far is None or past <= FIRST_TASK or before is None:
            return so_far
        now = past * so_far - (past - 1) * before
        return (past * so_far + (all_ - past) * now) / all_

    def bracket(self, number: int) -> int:
        """Return hyperband's bracket of a trial, the number of rungs that it skips at the beginning.

        It is drawn with hyperband's shares from the trial's number alone. The resource are increments, over
        all class orders and seeds of a trial: more of them make more rungs and brackets. They cannot grow
        in a study that stops trials, so a trial never changes its bracket.
        """
        factor = self.args["reduction_factor"]
        most = max(1, len(self.orders) * (self.tasks - 1))
        brackets = 1
        while factor**brackets <= most:
            brackets += 1
        shares = [math.ceil(brackets * factor**s / (s + 1)) for s in reversed(range(brackets))]
        drawn = int(digest([self.seed, trained_by(number)], 8), 16) % sum(shares)
        for bracket, share in enumerate(shares):
            if drawn < share:
                return bracket
            drawn -= share
        raise AssertionError("the shares cover every number that is drawn")

    def _halved(self, rung: Rung, own: float, others: Sequence[float]) -> bool:
        """Tell whether a trial ends at a rung: one in `reduction_factor` continues, the best in any case.

        Rungs lie after factor^k increments, from k = `rung.late` on. `others` are sorted.
        """
        worse = bisect.bisect_right(others, own)
        best = self._continuing(len(others) + 1, rung.increments, rung.late)
        return len(others) - worse >= best  # as many as may continue are better

    def _continuing(self, known: int, rung: int, late: int) -> int:
        """Return how many of the trials that reached a rung continue.

        With `gentle`, if one increment is a small part of all, the first rung only stops one in
        `reduction_factor`. The second makes up for it, so that as few pass both.
        """
        factor = self.args["reduction_factor"]
        many = len(self.orders) * (self.tasks - 1) >= factor**2
        if self.args["gentle"] and many and late == 0 and rung <= factor:
            if rung == 1:
                return math.ceil(known * (factor - 1) / factor)
            return math.ceil(known / (factor * (factor - 1)))
        return max(1, known // factor)

    def _outraced(self, course: Course, step: int, rivals: list[Course]) -> bool:
        """Tell whether a rival is better over the class orders that `course` has ended."""
        if (step + 1) % self.tasks or not rivals:
            return False
        run = step // self.tasks
        if self.orders[run + 1] == self.orders[run]:  # another seed of the same order is still to come
            return False
        best = max(rivals, key=lambda other: (self._rest(other, run), -other.number))
        own, others = self._by_order(course, run), self._by_order(best, run)
        if own is None or others is None:
            return False
        differences = np.subtract(own, others)
        looks = race_looks(len(set(self.orders)), self.args["p_threshold"])
        if len(differences) not in looks or differences.mean() >= 0:
            return False
        found = scipy.stats.wilcoxon(differences, alternative="less", zero_method="zsplit")
        return bool(found.pvalue < self.args["p_threshold"] / len(looks))

    def _rest(self, course: Course, run: int) -> float:
        """Return the mean or worst of a completed trial over its runs after `run`."""
        ends = (self.tasks * (later + 1) - 1 for later in range(run + 1, len(self.orders)))
        values = [course.values.get(end, -math.inf) for end in ends]
        return min(values) if self.worst else math.fsum(values) / len(values)

    def _by_order(self, course: Course, last: int) -> list[float] | None:
        """Return the mean over seeds of each class order up to run `last`; None if one is missing."""
        groups: dict[str, list[float]] = {}
        for run in range(last + 1):
            value = course.values.get(self.tasks * (run + 1) - 1)
            if value is None:
                return None
            groups.setdefault(self.orders[run], []).append(value)
        return [math.fsum(values) / len(values) for values in groups.values()]


class Standings:
    """The standings of a cell's trials at each rung, sorted, so that a decision walks over no trials."""

    def __init__(self, stopper: Stopper, courses: Iterable[Course] = ()) -> None:
        self._stopper = stopper
        self._sorted: dict[Rung, list[float]] = {}
        self._placed: dict[int, dict[Rung, float]] = {}  # by trial
        for course in courses:
            self.take(course)

    def take(self, course: Course) -> None:
        """Place a trial at all rungs that it has reached."""
        for step in course.values:
            self._place(course, step)

    def reach(self, course: Course, step: int) -> None:
        """Place a trial whose value at `step` has just become known, on which later standings may depend."""
        if step == max(course.values):
            self._place(course, step)
        else:
            self.take(course)

    def forget(self, number: int) -> None:
        """Remove a trial that begins again."""
        for rung, value in self._placed.pop(number, {}).items():
            del self._sorted[rung][bisect.bisect_left(self._sorted[rung], value)]

    def others(self, rung: Rung, number: int) -> list[float]:
        """Return the standings at a rung, sorted, without that of a trial."""
        values = list(self._sorted.get(rung, ()))
        if (own := self._placed.get(number, {}).get(rung)) is not None:
            del values[bisect.bisect_left(values, own)]
        return values

    def _place(self, course: Course, step: int) -> None:
        stopper = self._stopper
        if stopper.name == "wilcoxon" or (stopper.name == "median" and not course.completed):
            return
        rung = stopper.rung(course.number, step)
        if rung is None or not rung.takes(course, stopper.turns):
            return
        value = stopper.standing(course, step)
        mine, there = self._placed.setdefault(course.number, {}), self._sorted.setdefault(rung, [])
        if (before := mine.pop(rung, None)) is not None:
            del there[bisect.bisect_left(there, before)]
        if value is not None:
            mine[rung] = value
            bisect.insort(there, value)


def race_looks(orders: int, threshold: float) -> range:
    """Return the numbers of ended class orders after which a race looks at a trial.

    The smallest p-value of n pairs is 2^-n. The looks begin where it is below an equal share of `threshold`,
    and end before the last order. Empty where there are too few orders.
    """
    for first in range(2, orders):
        if 2.0**-first < threshold / (orders - first):
            return range(first, orders)
    return range(0)
