"""Rates at which chance alone decides: tests, races and selections among equals, simulated on counts.

Every figure is a share of simulated studies, trials or searches, or a difference of accuracies. Nothing is
trained. `tests/analysis/statistics/test_chance.py` says what must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.redraws import luck_of_rows
from search.cells.stoppers import Course, Stopper

Floats = NDArray[np.float64]
Figures = dict[str, float]

ROWS = (143, 500)
ACCURACIES = (0.3, 0.7, 0.9, 0.98)
SPREADS = (0.0, 1.0, 4.0, 16.0)  # variance of a method over class orders, in variances of its counts
ALIKE = (0.0, 0.9)  # share of the rows that two networks answer alike
CELLS = 10  # of a study, corrected by Holm
SHIFT = 0.03  # standard deviation of the class orders' difficulty, which both methods share


def measure() -> Figures:
    """All of it, in a few minutes."""
    out = Figures()
    for orders in (2, 3, 5, 10):
        out |= {f"compare.{orders}_orders.{name}": value for name, value in comparison(orders).items()}
    for orders in (5, 7, 10):
        out |= {f"race.{orders}_orders.{name}": value for name, value in races(orders).items()}
    for trials in (10, 30):
        out |= {f"luck.{trials}_trials.{name}": value for name, value in luck(trials).items()}
    return out


# Two methods over class orders


def comparison(orders: int, studies: int = 2000) -> Figures:
    """The largest level of one test and of a family of cells over all settings, and the power.

    `student`: Student's t alone. `counts`: the error of the counts alone. `larger`: the larger p-value of
    both, as in `analysis.statistics.intervals`. `satterthwaite`: the larger variance of both, with
    Satterthwaite's degrees of freedom. The power is that of a difference of four standard errors.
    """
    draw = np.random.default_rng(orders)
    level: dict[str, float] = {}
    family: dict[str, float] = {}
    for rows, accuracy, spread, alike in _settings():
        a, b = right(draw, (studies * CELLS, orders), rows, accuracy, spread, alike)
        for name, p in p_values(a, b, rows).items():
            level[name] = max(level.get(name, 0.0), float((p <= 0.05).mean()))
            least = CELLS * p.reshape(-1, CELLS).min(axis=1)  # the first step of Holm
            family[name] = max(family.get(name, 0.0), float((least <= 0.05).mean()))
    power: dict[str, list[float]] = {}
    for rows, spread in ((143, 0.0), (143, 1.0), (500, 0.0), (500, 4.0)):
        apart = 4 * np.sqrt(2 * 0.7 * 0.3 / rows * (1 + spread) / orders)
        a, b = right(draw, (studies * CELLS, orders), rows, 0.7, spread, 0.0, min(apart, 0.3))
        for name, p in p_values(a, b, rows).items():
            power.setdefault(name, []).append(float((p <= 0.05).mean()))
    out = {f"{name}.level": value for name, value in level.items()}
    out |= {f"{name}.false_in_family": value for name, value in family.items()}
    return out | {f"{name}.power": float(np.mean(found)) for name, found in power.items()}


def _settings() -> Iterator[tuple[int, float, float, float]]:
    for rows in ROWS:
        for accuracy in ACCURACIES:
            for spread in SPREADS:
                for alike in ALIKE:
                    yield rows, accuracy, spread, alike


def right(
    draw: np.random.Generator,
    shape: tuple[int, int],
    rows: int,
    accuracy: float,
    spread: float,
    alike: float,
    apart: float = 0.0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right answers of two methods, [studies, orders] each, of which the second is `apart` worse.

    Accuracies are drawn from beta laws, so that their means are exact: for each order, then for each method.
    """
    order = _beta(draw, np.full(shape, accuracy), min(SHIFT**2, accuracy * (1 - accuracy) / 4))
    order = np.clip(order, apart + 0.001, 0.999)
    one, two = (
        _beta(draw, mean, spread * mean * (1 - mean) / rows) if spread else mean
        for mean in (order, order - apart)
    )
    same = draw.binomial(rows, alike, shape)
    low, high = np.minimum(one, two), np.maximum(one, two)
    both = draw.binomial(same, low)
    better = draw.binomial(same - both, (high - low) / np.maximum(1 - low, 1e-9))
    return (
        both + np.where(one > two, better, 0) + draw.binomial(rows - same, one),
        both + np.where(two > one, better, 0) + draw.binomial(rows - same, two),
    )


def _beta(draw: np.random.Generator, mean: Floats, variance: Floats | float) -> Floats:
    known = mean * (1 - mean) / np.minimum(variance, 0.5 * mean * (1 - mean)) - 1
    return draw.beta(mean * known, (1 - mean) * known)


def p_values(a: NDArray[np.int64], b: NDArray[np.int64], rows: int) -> dict[str, Floats]:
    """The p-values [studies] of the tests that `comparison` names."""
    orders = a.shape[1]
    p = [(right + 1) / (rows + 2) for right in (a, b)]
    counts = np.sqrt(sum(q * (1 - q) / rows for q in p).mean(axis=1) / orders)  # type: ignore[union-attr]
    mean = np.abs((a - b).mean(axis=1)) / rows
    spread = np.maximum(stats.sem((a - b) / rows, axis=1), 1e-12)
    student = 2 * stats.t.sf(mean / spread, orders - 1)
    normal = 2 * stats.norm.sf(mean / counts)
    free = (orders - 1) * np.maximum(1.0, counts / spread) ** 4
    floor = 2 * stats.t.sf(mean / np.maximum(counts, spread), np.minimum(free, 1e9))
    larger = np.maximum(student, normal)
    return {"student": student, "counts": normal, "larger": larger, "satterthwaite": floor}


# Races between trials


def races(orders: int, searches: int = 100) -> Figures:
    """Share of trials that a race stops among equals, and of those two standard deviations below them.

    `uncorrected` looks after every class order, against the best rival, at the whole threshold.
    """
    stop = Stopper("wilcoxon", {"p_threshold": 0.1}, 2, [f"seed:{k}" for k in range(orders)])
    out = Figures()
    for name, rule in (("", stop.should_stop), ("uncorrected_", _uncorrected(stop))):
        for rows in (143, 500):
            equal, _ = race(rule, orders, rows, 0.0, searches)
            out[f"{name}wrong_of_{rows}_rows"] = equal
        _, worse = race(rule, orders, 500, 2 * float(np.sqrt(0.7 * 0.3 / 500)), searches)
        out[f"{name}right"] = worse
    return out


Rule = Callable[[Course, int, Iterable[Course]], bool]


def race(rule: Rule, orders: int, rows: int, worse: float, searches: int) -> tuple[float, float]:
    """The share of stops among 20 trials a search; of the good trials, and of the half that is `worse`."""
    draw = np.random.default_rng(orders * rows)
    stops: Mapping[bool, list[bool]] = {False: [], True: []}
    for _ in range(searches):
        courses: list[Course] = []
        for number in range(20):
            bad = bool(worse and number % 2)
            values = draw.binomial(rows, 0.7 - worse * bad, orders) / rows
            course = Course(number)
            for order, value in enumerate(values):
                course.values[2 * order + 1] = float(value)
                if rule(course, 2 * order + 1, courses):
                    break
            course.completed = len(course.values) == orders
            courses.append(course)
            stops[bad].append(not course.completed)
    good, bad_ones = stops[False], stops[True]
    return float(np.mean(good)), float(np.mean(bad_ones)) if bad_ones else 0.0


def _uncorrected(stop: Stopper) -> Rule:
    def rule(course: Course, step: int, courses: Iterable[Course]) -> bool:
        rivals = [other for other in courses if other.completed]
        if not rivals or step >= stop.last or step < 3:
            return False
        best = max(rivals, key=lambda other: sum(other.values.values()))
        differences = np.array([value - best.values[at] for at, value in course.values.items()])
        test: Any = stats.wilcoxon(differences, alternative="less", zero_method="zsplit")
        return bool(differences.mean() < 0 and test.pvalue < stop.args["p_threshold"])

    return rule


# The luck of the rows that selected a trial


def luck(trials: int, searches: int = 300, rows: int = 500) -> Figures:
    """The mean luck of the selected trial, and the mean estimate from the counts that the search saw.

    Trials differ by nothing, or by one or three standard errors of their counts; or they fall off from a best
    value exponentially. With `seeds`, networks of one trial differ by one standard error.
    """
    draw = np.random.default_rng(trials)
    error = np.sqrt(0.7 * 0.3 / rows)
    out = Figures()
    for name, seeds, drawn in (
        ("equal", 0.0, lambda: np.zeros(trials)),
        ("apart_by_1", 0.0, lambda: draw.normal(0.0, 1.0, trials)),
        ("apart_by_3", 0.0, lambda: draw.normal(0.0, 3.0, trials)),
        ("falling", 0.0, lambda: -draw.exponential(3.0, trials)),
        ("equal_seeds", 1.0, lambda: np.zeros(trials)),
        ("apart_by_1_seeds", 1.0, lambda: draw.normal(0.0, 1.0, trials)),
    ):
        real, estimated = [], []
        for _ in range(searches):
            true = np.clip(0.7 + error * (drawn() + seeds * draw.standard_normal(trials)), 0.0, 1.0)
            seen = draw.binomial(rows, true) / rows
            best = int(seen.argmax())
            real.append(seen[best] - true[best])
            p = (seen * rows + 1) / (rows + 2)
            estimated.append(luck_of_rows(seen, np.sqrt(p * (1 - p) / rows), draw, 1000))
        out |= {f"{name}.real": float(np.mean(real)), f"{name}.estimated": float(np.mean(estimated))}
    return out
