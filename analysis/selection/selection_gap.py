"""The selection gap: the value by which a trial was selected minus its final test value.

Further measurements of the same trial lie between the two, and each of them changes one thing. The parts are
the differences of neighbours, so they sum to the gap exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.statistics.sample import Pairs, Sample

FORMULAS = {
    "fresh seeds": "selected by − the same rows and class orders again, with seeds new to it",
    "class orders": "that rerun over the search's class orders − over the final ones",
    "later tasks": "that rerun over the first k tasks − over all tasks",
    "other rows": "that rerun on validation rows − on test rows",
    "more data": "that rerun on test rows − trained on validation rows as well (final)",
}
"""Every part, in the order in which they sum to the gap."""

LUCK = "luck of rows"
"""An expectation beside the parts. It lies in "other rows", and in "fresh seeds" as far as a network that was
trained with another seed does not share it; counts do not tell the two apart."""

LUCK_FORMULA = (
    "luck of rows = E(the winner's value on the selection rows − on other rows): v_i + SE_i · z with the "
    "noise of the rows once and twice more, selected again, and extrapolated back to the noise that v_i "
    "holds (SIMEX; Cook & Stefanski, JASA, 1994)"
)


@dataclass(frozen=True)
class Station:
    """A measurement of the selected trial: its runs, and what differs from the one before it."""

    part: str  # a key of FORMULAS; empty for the value that it was selected by
    runs: Pairs


@dataclass(frozen=True)
class GapPart:
    """One part of the gap; `half`: the half width of its interval over class orders, if there is one."""

    name: str
    value: float
    half: float | None


def value_of(runs: Pairs, how: str = "mean", several: int | None = None) -> float | None:
    """Return the value of runs as the search counts them: by `how`, mean, min or max; None without runs.

    The minimum falls with the number of runs. So with `several` it is the expected one of as many of them,
    drawn without replacement: the i-th of n by size is that of m with probability C(n-i, m-1) / C(n, m).
    """
    known = [one.value for _, one in runs if one.value is not None]
    if not known:
        return None
    if how == "mean":
        return Sample.of(runs).mean.value
    known.sort(reverse=how == "max")
    n, m = len(known), min(several or len(known), len(known))
    ways = [math.comb(n - place, m - 1) for place in range(1, n + 1)]
    return math.fsum(value * way for value, way in zip(known, ways, strict=True)) / math.comb(n, m)


def parts(stations: Sequence[Station], how: str = "mean") -> list[GapPart]:
    """Return the differences of neighbouring stations, in order. Raises ValueError if one has no value."""
    searched = len(stations[0].runs) if stations else 0
    values = [value_of(station.runs, how, searched) for station in stations]
    out = []
    for index in range(1, len(stations)):
        before, after = values[index - 1], values[index]
        if before is None or after is None:
            raise ValueError("every station of a gap needs a run with a value")
        half = None
        if how == "mean":
            half = _half(Sample.of(stations[index - 1].runs), Sample.of(stations[index].runs))
        out.append(GapPart(stations[index].part, before - after, half))
    return out


def _half(left: Sample, right: Sample) -> float | None:
    """Return the half width of the paired differences; None where the class orders differ."""
    return (left - right).mean.half if set(left.values) == set(right.values) else None
