"""Intervals and paired differences. The class order is the unit: seeds are averaged within an order first."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Mean:
    """A mean over n class orders.

    `half` is the half width of its t-interval, None for fewer than two orders.
    """

    value: float | None
    half: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f}" + ("" if self.half is None else f" ± {self.half:.3f}") + f" (n = {self.n})"


def mean(values: Iterable[float | None], confidence: float = 0.95) -> Mean:
    """The mean of independent values and its t-interval; missing values (None, nan) are left out."""
    known = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=np.float64)
    n = len(known)
    if n == 0:
        return Mean(None, None, 0)
    if n == 1:
        return Mean(float(known[0]), None, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * known.std(ddof=1) / np.sqrt(n))
    return Mean(float(known.mean()), half, n)


def over_orders(values: Iterable[tuple[Hashable, float | None]], confidence: float = 0.95) -> Mean:
    """The mean over class orders of pairs (class order, value); the seeds of an order are averaged first."""
    return mean(_by_order(values).values(), confidence)


def paired(
    a: Iterable[tuple[Hashable, float | None]],
    b: Iterable[tuple[Hashable, float | None]],
    confidence: float = 0.95,
) -> Mean:
    """The mean of a - b over the class orders that both have, with the t-interval of the differences."""
    left, right = _by_order(a), _by_order(b)
    return mean([left[order] - right[order] for order in left if order in right], confidence)


def _by_order(values: Iterable[tuple[Hashable, float | None]]) -> Mapping[Hashable, float]:
    groups: dict[Hashable, list[float]] = {}
    for order, value in values:
        if value is not None and np.isfinite(value):
            groups.setdefault(order, []).append(float(value))
    return {order: float(np.mean(group)) for order, group in groups.items()}
