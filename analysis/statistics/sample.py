"""One quantity by class order, with the error that its counts leave; every interval is made of one.

The class order is the unit: seeds are averaged within an order first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.statistics import intervals
from analysis.statistics.counting_error import Counted, counted, errors_of
from analysis.statistics.intervals import SMALLEST, Mean, Outcomes
from cl_core.metrics import METRICS

Pairs = list[tuple[str, Counted]]
"""(class order, number) of every run."""


@dataclass(frozen=True)
class Sample:
    """Class order -> value, the mean over its seeds; and the variance that counting leaves in each."""

    values: Mapping[Hashable, float]
    variances: Mapping[Hashable, float]

    @classmethod
    def of(cls, runs: Iterable[tuple[Hashable, Counted]]) -> Sample:
        """From the numbers of runs; missing ones (None, nan) are left out."""
        groups: dict[Hashable, list[Counted]] = {}
        for order, one in runs:
            if one.value is not None and np.isfinite(one.value):
                groups.setdefault(order, []).append(one)
        return cls(
            {order: float(np.mean([one.value for one in group])) for order, group in groups.items()},
            {order: sum(one.error**2 for one in group) / len(group) ** 2 for order, group in groups.items()},
        )

    def __len__(self) -> int:
        return len(self.values)

    def __sub__(self, other: Sample) -> Sample:
        """The paired differences over the class orders that both have."""
        return self + -1.0 * other

    def __add__(self, other: Sample) -> Sample:
        """The sums over the class orders that both have.

        The variances add, as those of two networks that err independently; where they err on the same rows,
        a difference varies less.
        """
        both = [order for order in self.values if order in other.values]
        return Sample(
            {order: self.values[order] + other.values[order] for order in both},
            {order: self.variances[order] + other.variances[order] for order in both},
        )

    def __rmul__(self, weight: float) -> Sample:
        return Sample(
            {order: weight * value for order, value in self.values.items()},
            {order: weight**2 * variance for order, variance in self.variances.items()},
        )

    def less(self, amount: float) -> Sample:
        """Return the sample with every value lower by an amount."""
        return Sample({order: value - amount for order, value in self.values.items()}, self.variances)

    @property
    def error(self) -> float:
        """The standard error of the mean by counting alone.

        The counts of n class orders are n times the rows, though the orders share them: networks trained
        apart err on different rows. Where they err on the same ones it is up to sqrt(n) times as large.
        """
        return float(np.sqrt(sum(self.variances.values()))) / len(self) if len(self) else 0.0

    @property
    def mean(self) -> Mean:
        """The mean over class orders and its 95 % interval."""
        return intervals.mean(self.values.values(), self.error)

    @property
    def p_of_zero(self) -> float | None:
        """As `intervals.p_of_zero`."""
        return intervals.p_of_zero(self.values.values(), self.error)

    def best_of(self, among: int) -> tuple[Mean, float | None]:
        """Mean and p-value of zero, where these values selected a trial from `among`."""
        known = self.values.values()
        return (
            intervals.mean(known, self.error, among=among),
            intervals.p_of_zero(known, self.error, among),
        )

    def outcomes(self, claimed: float = SMALLEST, smallest: float = SMALLEST) -> Outcomes:
        """As `intervals.outcomes`."""
        return intervals.outcomes(self.values.values(), claimed, smallest, self.error)


def measured(
    results: Results,
    runs: pd.DataFrame,
    split: str,
    tasks: int | None = None,
    classifier: str | None = None,
) -> dict[str, Pairs]:
    """Every metric of runs on `split`, over their first `tasks` tasks or all.

    The answers are those of the primary classifier, or of the one that is named. Raises BadRequest for one
    that a run does not have.
    """
    out: dict[str, Pairs] = {name: [] for name in METRICS}
    results.fetch(runs["run"])
    for run, order in zip(runs["run"], runs["class_order"], strict=True):
        counts = results.confusions(run, split, classifier)[:tasks]
        known = counted(counts, results.sizes(run)) if counts else {}
        for name, found in out.items():
            found.append((str(order), known.get(name, Counted(None))))
    return out


def recorded(
    results: Results, runs: pd.DataFrame, column: str, metric: str = "", tasks: int | None = None
) -> Pairs:
    """A column of the rows of `runs`, which is `metric` (the column's name unless given), of some runs.

    The error is that of the counts on each run's own split, over the first `tasks` tasks or all; a cost has
    none.
    """
    metric = metric or column
    error = [0.0] * len(runs)
    if metric in METRICS:
        results.measure(runs["run"])
        found = map(results.accuracies, runs["run"], runs["split"])
        error = errors_of(metric, [known and known.first(tasks) for known in found])
    names = (runs["class_order"], runs[column], error)
    return [
        (str(order), Counted(None if pd.isna(value) else float(value), deviation))
        for order, value, deviation in zip(*names, strict=True)
    ]
