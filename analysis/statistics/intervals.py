"""Intervals and verdicts over class orders, each of which gives one value (`analysis.statistics.sample`).

Two things make a mean over n class orders uncertain. The orders differ: Student's t with the spread s of
their values. And every value is a share of finitely many rows: the normal law with the standard error
`error` of the counts, which needs no estimate from n values. An interval is the wider of the two, a p-value
the larger, so that values which happen to agree are not certain: 1 row of 143 more in each of three orders
has s = 0.

Either test alone holds its level where its cause alone acts, so the larger p-value holds it in both cases.
Few orders decide nothing: two values of counts are often equal.

A trial that was selected from k trials by the values shown had luck. Its interval then holds for the largest
of k means: `among` is k. The largest of k independent standard normal values over the root of a mean square
with f degrees of freedom has the studentized maximum law (Pillai & Ramachandran, Ann. Inst. Statist. Math. 6,
1954); with k = 1 it is Student's. This is the worst case: the trials are equal and the other side is certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True)
class Mean:
    """A mean over n class orders.

    `half` is the half width of its 95 % interval, None for fewer than two orders.
    """

    value: float | None
    half: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f}" + ("" if self.half is None else f" ± {self.half:.3f}") + f" (n = {self.n})"


def mean(
    values: Iterable[float | None], error: float = 0.0, confidence: float = 0.95, among: int = 1
) -> Mean:
    """The mean of independent values and its interval; missing values (None, nan) are left out.

    `error` is the standard error of the mean by counting alone, 0 for what is not counted. `among` is the
    number of trials that the shown one was selected from by these values.
    """
    known = _known(values)
    n = len(known)
    if n < 2:
        return Mean(float(known[0]) if n else None, None, n)
    tail = (1 - confidence) / 2
    student = _studentized_bound(tail, n - 1, among) * standard_error(known)
    # The largest of k normal values is below z with probability Phi(z)^k.
    normal = -float(special.ndtri(-special.expm1(special.log1p(-tail) / among)))
    return Mean(float(known.mean()), max(student, normal * error), n)


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of two values or more."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _known(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([v for v in values if v is not None and np.isfinite(v)], dtype=np.float64)


def _tail(distance: float, spread: float, error: float, n: int, among: int = 1) -> float:
    """Twice the one-sided p-value of a mean of n values that is `distance` on the shown side of a bound."""
    found = [2 * studentized_tail(distance / spread, n - 1, among)] if spread else []
    found += [2 * _largest_tail(distance / error, among)] if error else []
    return min(1.0, max(found)) if found else 0.0 if distance > 0 else 1.0


def studentized_tail(bound: float, free: int, among: int) -> float:
    """P(the largest of `among` normal values > bound x s), s^2 a mean square with `free` degrees of
    freedom."""
    if among == 1:
        return float(special.stdtr(free, -bound))
    if bound <= 0:  # s is at least 0: no case of interest is here
        return 1.0

    def part(s: float) -> float:
        if not s:  # the density is that of s, in logarithms and without its factor 2
            return 0.0
        density = (free - 1) * math.log(s) - free / 2 * s**2 - norm
        return 2 * _largest_tail(bound * s, among) * math.exp(density)

    norm = math.lgamma(free / 2) - free / 2 * math.log(free / 2)
    return min(1.0, float(scipy.integrate.quad(part, 0.0, min(_FAR / bound, _FAR), limit=200)[0]))


_FAR = 9.0  # standard deviations; the largest of 10,000 normal values is never beyond, nor is s


def _largest_tail(value: float, among: int) -> float:
    """P(the largest of `among` standard normal values > value)."""
    return -float(special.expm1(among * special.log_ndtr(value)))


@lru_cache(maxsize=1024)
def _studentized_bound(tail: float, free: int, among: int) -> float:
    """The bound that `studentized_tail` exceeds with probability `tail`."""
    alone = -float(special.stdtrit(free, tail))
    if among == 1:
        return alone
    most = -float(special.stdtrit(free, tail / among))  # Bonferroni
    return float(
        scipy.optimize.brentq(lambda bound: studentized_tail(bound, free, among) - tail, alone, most)
    )


SMALLEST = 0.005
"""The smallest difference of accuracy that is of interest, half a point; fixed before anything was run."""

CLEAR = 0.02
"""The difference that "clearly" and "markedly" ask for, two points; fixed before anything was run."""

ALPHA = 0.05

FEWEST = 3
"""Class orders for a verdict or a p-value. With two, equal counts give a spread of zero too often."""

TOO_FEW = "too few class orders"

INTERVAL = (
    "±, 95 %: the wider of t · s / √n (Student, over n class orders) and 1.96 · e / √n, where e² is the "
    "variance of one order's counts: p (1 − p) / rows, p = (right + 1) / (rows + 2), through the metric's "
    "formula; of a difference e_a² + e_b²"
)
"""As the report prints it."""

OUTCOMES = ("contradicted", "holds", "equivalent")
UNDECIDED = "undecided"

Outcomes = Mapping[str, float]
"""p-values of the three things that paired differences can show, keyed as OUTCOMES.

Each is the smallest level 1 - c at which the interval of confidence c shows it.
"""

NOTHING: Outcomes = dict.fromkeys(OUTCOMES, 1.0)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and its p-value after Holm's correction."""

    name: str  # holds | contradicted | equivalent | undecided
    p: float


def outcomes(
    values: Iterable[float], claimed: float = SMALLEST, smallest: float = SMALLEST, error: float = 0.0
) -> Outcomes:
    """Test, on differences of n class orders, the claim that their mean is above `claimed`.

    holds: the interval lies above `claimed`; contradicted: below -`smallest`; equivalent: inside
    +-`smallest`. Nothing is shown by fewer than FEWEST orders. `error` as in `mean`.
    """
    known = _known(values)
    if len(known) < FEWEST:
        return NOTHING
    centre, spread = float(known.mean()), standard_error(known)

    def tail(distance: float) -> float:
        return _tail(distance, spread, error, len(known))

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
    """Read the plain interval of one contrast, without correction."""
    return verdicts([claim], alpha)[0].name


def p_of_zero(values: Iterable[float | None], error: float = 0.0, among: int = 1) -> float | None:
    """The two-sided p-value of a mean of zero; None for fewer than FEWEST values. `error` and `among` as in
    `mean`."""
    known = _known(values)
    if len(known) < FEWEST:
        return None
    return _tail(abs(float(known.mean())), standard_error(known), error, len(known), among)


def too_few(n: int) -> str:
    """The words in place of a verdict over fewer than FEWEST class orders; empty for enough."""
    return f"{TOO_FEW} (n = {n})" if n < FEWEST else ""
