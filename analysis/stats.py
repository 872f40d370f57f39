"""Intervals, paired differences and verdicts.

The class order is the unit: seeds are averaged within an order first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
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
    return mean(by_order(values).values(), confidence)


def paired(
    a: Iterable[tuple[Hashable, float | None]],
    b: Iterable[tuple[Hashable, float | None]],
    confidence: float = 0.95,
) -> Mean:
    """The mean of a - b over the class orders that both have, with the t-interval of the differences."""
    left, right = by_order(a), by_order(b)
    return mean([left[order] - right[order] for order in left if order in right], confidence)


def by_order(values: Iterable[tuple[Hashable, float | None]]) -> dict[Hashable, float]:
    """The mean of each class order's values; missing ones (None, nan) are left out."""
    groups: dict[Hashable, list[float]] = {}
    for order, value in values:
        if value is not None and np.isfinite(value):
            groups.setdefault(order, []).append(float(value))
    return {order: float(np.mean(group)) for order, group in groups.items()}


SMALLEST = 0.005
"""The smallest difference of accuracy that is of interest, half a point; fixed before anything was run."""

CLEAR = 0.02
"""What "clearly" and "markedly" mean: a difference beyond two points; fixed before anything was run."""

ALPHA = 0.05

OUTCOMES = ("contradicted", "holds", "equivalent")
UNDECIDED = "undecided"

Outcomes = Mapping[str, float]
"""p-values of the three things that paired differences can show, keyed as OUTCOMES.

Each is the smallest level 1 - c at which the interval of confidence c shows it.
"""

NOTHING: Outcomes = dict.fromkeys(OUTCOMES, 1.0)


@dataclass(frozen=True)
class Verdict:
    """What a claim has come to, and its p-value after Holm's correction."""

    name: str  # holds | contradicted | equivalent | undecided
    p: float


def outcomes(values: Iterable[float], claimed: float = SMALLEST, smallest: float = SMALLEST) -> Outcomes:
    """What differences of n class orders show of the claim that their mean is above `claimed`.

    holds: the interval lies above `claimed`; contradicted: below -`smallest`; equivalent: inside
    +-`smallest`. Nothing is shown by fewer than two orders.
    """
    known = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if len(known) < 2:
        return NOTHING
    centre, spread = float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))

    def tail(distance: float) -> float:
        """Twice the one-sided p-value of a mean that is `distance` on the shown side of a bound."""
        if spread == 0:
            return 0.0 if distance > 0 else 1.0
        return min(1.0, 2 * float(stats.t.sf(distance / spread, len(known) - 1)))

    return {
        "contradicted": tail(-centre - smallest),
        "holds": tail(centre - claimed),
        "equivalent": max(tail(smallest - centre), tail(smallest + centre)),
    }


def together(contrasts: Sequence[Outcomes], needed: int | None = None) -> Outcomes:
    """One claim of several contrasts, of which `needed` must hold (all unless said).

    Holding takes no correction when all must hold (intersection-union test); a counter-example found
    anywhere is corrected for having been looked for everywhere (Bonferroni). With fewer needed, both are
    partial conjunctions (Benjamini & Heller, Biometrics 2008). Raises ValueError without contrasts.
    """
    count = len(contrasts)
    if not count:
        raise ValueError("a claim needs at least one contrast")
    needed = count if needed is None else needed
    against = count - needed + 1  # so many that fail leave too few to hold
    wanted = {"contradicted": against, "holds": needed, "equivalent": against}
    return {name: _partial([c[name] for c in contrasts], r) for name, r in wanted.items()}


def _partial(p: Sequence[float], needed: int) -> float:
    """The p-value of "at least `needed` of these are true"."""
    return min(1.0, (len(p) - needed + 1) * sorted(p)[needed - 1])


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given (Scand. J. Statistics, 1979)."""
    out = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        out[index] = largest
    return out


def verdicts(family: Sequence[Outcomes], alpha: float = ALPHA) -> list[Verdict]:
    """The verdict on each claim of a family, under Holm's correction over the family."""
    p = [min(claim.values()) for claim in family]
    adjusted = holm(p)
    rank = {index: r for r, index in enumerate(sorted(range(len(p)), key=lambda i: p[i]))}
    out = []
    for index, claim in enumerate(family):
        factor = len(p) - rank[index]
        shown = [name for name in OUTCOMES if factor * claim[name] <= alpha]
        decided = adjusted[index] <= alpha
        out.append(Verdict(shown[0] if decided else UNDECIDED, adjusted[index]))
    return out


def reading(claim: Outcomes, alpha: float = ALPHA) -> str:
    """What the plain interval of one contrast shows, without correction."""
    return verdicts([claim], alpha)[0].name


def p_of_zero(values: Iterable[float | None]) -> float | None:
    """The two-sided p-value of Student's t-test that the mean of independent values is zero.

    None for fewer than two values; equal ones give 0, or 1 where they are zero.
    """
    known = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=np.float64)
    if len(known) < 2:
        return None
    centre, spread = float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    if spread == 0:
        return 1.0 if centre == 0 else 0.0
    return min(1.0, 2 * float(stats.t.sf(abs(centre) / spread, len(known) - 1)))
