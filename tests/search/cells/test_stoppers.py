"""Stoppers as pure functions of reported values, compared with Optuna's pruners."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.trial import TrialState

from search.cells.stoppers import Course, Standings, Stopper


def stopper(name: str, tasks: int = 10, orders: list[str] | None = None, **args: Any) -> Stopper:
    known = {
        "asha": {"reduction_factor": 3, "gentle": False},
        "hyperband": {"reduction_factor": 3, "gentle": False},
        "median": {"n_startup_trials": 5},
        "wilcoxon": {"p_threshold": 0.1},
    }
    return Stopper(name, {**known.get(name, {}), **args}, tasks, orders or ["natural"], seed="cell")


def race(stop: Stopper, values: list[list[float]]) -> list[int]:
    """The step at which each configuration, one after another, ended."""
    courses: list[Course] = []
    out = []
    for number, own in enumerate(values):
        course = Course(number)
        courses.append(course)
        for step in range(stop.tasks * len(stop.orders)):
            if step % stop.tasks == 0:
                continue
            course.values[step] = own[step]
            if stop.should_stop(course, step, courses):
                break
        course.completed = step == stop.last
        out.append(step)
    return out


def foretold(own: list[float], step: int) -> float:
    """Return the mean of the increments `own[1:]` if the accuracy stays where it is at `step`."""
    last = len(own) - 1
    if step < 2:
        return own[step]
    now = step * own[step] - (step - 1) * own[step - 1]
    return (step * own[step] + (last - step) * now) / last


def pruned(pruner: BasePruner, steps: int, values: list[list[float]], alone: bool = False) -> list[int]:
    """The same with a pruner of Optuna that is told what values foretell, and with `alone` sees a trial's
    last value only."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    out = []
    for own in values:
        trial = study.ask()
        state = TrialState.COMPLETE
        for step in range(1, steps):
            trial.report(foretold(own, step), step)
            shown = study.trials[trial.number]
            if alone:
                shown = copy.copy(shown)
                shown.intermediate_values = {step: foretold(own, step)}
            if step < steps - 1 and pruner.prune(study, shown):
                state = TrialState.PRUNED
                break
        study.tell(trial, own[steps - 1] if state == TrialState.COMPLETE else None, state)
        out.append(step)
    return out


tables = st.integers(0, 2**32 - 1).map(
    lambda seed: np.round(np.random.default_rng(seed).uniform(0, 1, (24, 12)), 2).tolist()
)


@settings(max_examples=25)
@given(tables, st.sampled_from([2, 3, 4]))
def test_successive_halving_stops_what_optunas_pruner_stops(values: list[list[float]], factor: int) -> None:
    ours = race(stopper("asha", 12, reduction_factor=factor), values)
    assert ours == pruned(SuccessiveHalvingPruner(min_resource=1, reduction_factor=factor), 12, values)
    assert min(ours) == 1 < max(ours)


@settings(max_examples=25)
@given(tables)
def test_the_median_stops_what_optunas_pruner_stops_when_it_sees_the_last_value(
    values: list[list[float]],
) -> None:
    ours = race(stopper("median", 12), values)
    theirs = pruned(MedianPruner(n_startup_trials=5, n_warmup_steps=1), 12, values, alone=True)
    assert ours == theirs
    assert min(ours) < 11


def test_where_accuracy_falls_the_median_still_stops_the_bad() -> None:
    falling = [[0.9 - 0.05 * step for step in range(10)] for _ in range(6)]
    bad = [[0.9, 0.88, 0.3, *[0.2] * 7]]
    assert race(stopper("median"), falling + bad)[-1] == 2
    # Optuna's own compares with the best so far, which is the first.
    assert pruned(MedianPruner(5, 1), 10, falling + bad)[-1] > 2


@settings(max_examples=25)
@given(tables)
def test_a_verdict_is_the_same_however_often_it_is_asked_for(values: list[list[float]]) -> None:
    stop = stopper("hyperband")
    courses = [Course(n, {s: v for s, v in enumerate(own[: 2 + n % 9]) if s}) for n, own in enumerate(values)]
    before = copy.deepcopy(courses)
    verdicts = [stop.should_stop(c, max(c.values), courses) for c in courses]
    assert verdicts == [stop.should_stop(c, max(c.values), courses) for c in courses]
    assert courses == before
    assert any(verdicts)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_nobody_is_stopped_before_the_second_task_or_after_the_last(name: str) -> None:
    stop = stopper(name, tasks=3, orders=["natural", "seed:1"])
    for number in range(1, 30):
        good = [Course(n, {1: 1.0, 2: 1.0, 4: 1.0, 5: 1.0}, completed=True) for n in range(30) if n != number]
        for step in (0, 3, 5):  # the first task of each run, and the very last
            worst = Course(number, {s: 0.0 for s in (1, 2, 4, 5) if s < step} | {step: 0.0})
            assert not stop.should_stop(worst, step, good)
    assert stopper("asha", 2).should_stop(Course(9, {1: 0.0}), 1, [Course(1, {1: 1.0})]) is False


def test_a_late_start_is_compared_at_its_own_task_and_not_at_the_others_end() -> None:
    stop = stopper("asha")
    fallen = [Course(n, {s: 0.9 - 0.08 * s for s in range(1, 10)}, completed=True) for n in range(5)]
    assert not stop.should_stop(Course(9, {1: 0.83}), 1, fallen)  # better at task 1, whatever they ended at
    assert stop.should_stop(Course(9, {1: 0.81}), 1, fallen)


def test_hyperband_draws_brackets_with_its_shares_and_later_ones_begin_later() -> None:
    stop = stopper("hyperband", 10)
    brackets = [stop.bracket(number) for number in range(3000)]
    # 3 brackets of 9 increments: ceil(3 * 9 / 3), ceil(3 * 3 / 2), ceil(3 * 1 / 1)
    shares = [brackets.count(bracket) / 3000 for bracket in range(3)]
    assert shares == pytest.approx([9 / 17, 5 / 17, 3 / 17], abs=0.03)
    first = {bracket: brackets.index(bracket) for bracket in range(3)}
    for bracket, number in first.items():
        rivals = [
            Course(n, dict.fromkeys(range(1, 10), 1.0), completed=True) for n in range(200) if n != number
        ]
        stops = [
            step
            for step in range(1, 9)
            if stop.should_stop(Course(number, dict.fromkeys(range(1, step + 1), 0.0)), step, rivals)
        ]
        assert stops == [step for step in (1, 3) if step >= 3**bracket]


def test_what_is_compared_is_the_end_if_the_accuracy_stays_where_it_is() -> None:
    stop = stopper("asha", tasks=5)  # four increments
    course = Course(0, {1: 0.6, 2: 0.5, 3: 0.4, 4: 0.35})  # means so far: accuracies 0.6, 0.4, 0.2, 0.2
    assert stop.standing(course, 1) == 0.6
    assert stop.standing(course, 2) == pytest.approx((0.6 + 0.4 + 0.4 + 0.4) / 4)
    assert stop.standing(course, 3) == pytest.approx((0.6 + 0.4 + 0.2 + 0.2) / 4)
    assert stop.standing(course, 4) == pytest.approx(0.35)
    assert stop.standing(Course(1, {3: 0.4}), 3) == 0.4  # a value is missing: as reported
    second = stopper("asha", tasks=5, orders=["natural", "seed:1"])
    assert second.standing(Course(2, course.values | {6: 0.6, 7: 0.5}), 7) == pytest.approx((0.35 + 0.45) / 2)


def test_who_keeps_the_old_and_learns_nothing_new_is_not_kept_at_the_second_rung() -> None:
    stop = stopper("asha")
    learns = [Course(n, {1: 0.4, 2: 0.38, 3: 0.36}) for n in range(2)]  # accuracies 0.4, 0.36, 0.32
    rigid = Course(2, {1: 0.6, 2: 0.48, 3: 0.39})  # 0.6, 0.36, 0.21: the best mean so far, and falling
    assert stop.should_stop(rigid, 3, [*learns, rigid])
    assert not stop.should_stop(learns[0], 3, [*learns, rigid])


def test_gently_the_first_rung_stops_one_in_three_and_as_few_come_through_the_second() -> None:
    def left(tasks: int, rung: int, known: int, **args: Any) -> int:
        stop = stopper("asha", tasks, gentle=True, **args)
        courses = [Course(n, dict.fromkeys(range(1, rung + 1), n / 100)) for n in range(known)]
        return sum(not stop.should_stop(course, rung, courses) for course in courses)

    assert [left(10, 1, known) for known in (1, 2, 3, 4, 36)] == [1, 2, 2, 3, 24]
    assert [left(10, 3, known) for known in (1, 6, 7, 24)] == [1, 1, 2, 4]  # 4 of 36: one in nine
    assert left(28, 9, 36) == 12
    assert left(9, 1, 36) == 12  # eight increments: the first is no small part of them
    assert [left(5, rung, 36, reduction_factor=2) for rung in (1, 2)] == [18, 18]


def test_with_several_runs_the_mean_or_the_worst_so_far_is_compared() -> None:
    orders = ["natural", "seed:1"]
    course = Course(0, {2: 0.9, 4: 0.5})
    assert stopper("asha", 3, orders).standing(course, 4) == pytest.approx(0.7)
    worst = Stopper("asha", stopper("asha").args, 3, orders, worst=True)
    assert worst.standing(course, 4) == 0.5
    assert worst.standing(Course(0, {4: 0.5}), 4) is None


def test_an_audited_trial_leaves_the_race_where_it_would_have_been_stopped() -> None:
    stop = stopper("asha")
    audited = Course(0, dict.fromkeys(range(1, 10), 0.9), audited=1)
    assert stop.should_stop(Course(1, {1: 0.5}), 1, [audited])
    assert not stop.should_stop(Course(1, {1: 0.5, 2: 0.5, 3: 0.5}), 3, [audited])


def test_a_race_stops_what_is_worse_over_the_class_orders_and_only_at_the_end_of_one() -> None:
    orders = [order for order in ("natural", "seed:1", "seed:2", "seed:3", "seed:4", "seed:5") for _ in "ab"]
    stop = stopper("wilcoxon", 3, orders)
    best = Course(0, {3 * run + 2: 0.8 + 0.01 * run for run in range(12)}, completed=True)
    worse = Course(1)
    for step in range(36):
        if step % 3:
            worse.values[step] = best.values.get(step, 0.9) - 0.05 - 0.001 * step
            if stop.should_stop(worse, step, [best, worse]):
                break
    assert step == 3 * 10 - 1  # five of six orders, two seeds each: 2^-5 < 0.1, 2^-4 > 0.1 / 2
    luck = Course(
        2, {3 * run + 2: best.values[3 * run + 2] + (-0.05 if run < 6 else 0.2) for run in range(8)}
    )
    assert not stop.should_stop(luck, 23, [best, luck])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_a_race_stops_what_optunas_pruner_stops_at_an_equal_share_of_the_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(0.5, 1, 8), rng.uniform(0.4, 0.9, 8)
    stop = stopper("wilcoxon", 2, [f"seed:{k}" for k in range(8)])
    best = Course(0, {2 * run + 1: value for run, value in enumerate(first)}, completed=True)
    study = optuna.create_study(direction="maximize", pruner=WilcoxonPruner(p_threshold=0.1 / 3))
    trial = study.ask()
    for run, value in enumerate(first):
        trial.report(value, run)
    study.tell(trial, float(first.mean()))
    trial, course = study.ask(), Course(1)
    for run, value in enumerate(second[:7]):
        trial.report(value, run)
        course.values[2 * run + 1] = float(value)
        known = second[: run + 1].mean() < first[: run + 1].mean()
        theirs = trial.should_prune()
        if (
            run >= 4 and known and first.mean() > second[: run + 1].mean()
        ):  # their guard looks at runs to come
            assert stop.should_stop(course, 2 * run + 1, [best, course]) == theirs


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_standings_that_are_kept_decide_as_those_that_are_made_anew(name: str, seed: int) -> None:
    """Of trials that run side by side, in two class orders, some as checks, some begun again."""
    draw = np.random.default_rng(seed)
    stop = dataclasses.replace(stopper(name, 4, ["a", "b"]), turns=2)
    stop = dataclasses.replace(stop, args={**stop.args, "n_startup_trials": 2})
    courses, kept = {number: Course(number) for number in range(12)}, Standings(stop)
    steps = [step for step in range(8) if step % 4]
    for number in draw.permutation(np.repeat(np.arange(12), len(steps))).tolist():
        course = courses[number]
        step = next((step for step in steps if step not in course.values), None)
        if step is None:
            continue
        course.values[step] = float(draw.integers(0, 5)) / 4
        kept.reach(course, step)
        verdict = stop.should_stop(course, step, courses.values())
        assert stop.should_stop(course, step, courses.values(), kept) == verdict
        if step == steps[-1]:
            course.completed = True
            kept.take(course)
        elif verdict and draw.random() < 0.5:
            course.audited = course.audited or step
        elif draw.random() < 0.1:
            courses[number] = Course(number)
            kept.forget(number)
