"""PED-ANOVA: how much a hyperparameter's density among the best trials differs from that among all.

Watanabe et al., "PED-ANOVA", IJCAI 2023; with branches as in "Conditional PED-ANOVA", KDD 2026. Numbers
are those of `optuna.importance.PedAnovaImportanceEvaluator`, for hundreds of redraws of the trials' scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cl_core.hparams import Choice, Float, Int

GRID = 50  # places of a range, at most
NARROWEST = 0.5 / 1.64  # bandwidth in places: 90 % of a kernel is in its own


@dataclass(frozen=True)
class Gridded:
    """One hyperparameter of every trial, as a place in its domain."""

    place: NDArray[np.int64]  # [n]; -1 where it does not act
    size: int  # places
    ordered: bool  # a place says something of its neighbours
    known: dict[bytes, NDArray[np.float64]] = field(default_factory=dict, repr=False)  # densities by counts


def gridded(domain: Float | Int | Choice, values: Sequence[float | None], ordered: bool) -> Gridded:
    """Place values, None where the hyperparameter does not act; those of a choice are places already."""
    acts = np.array([value is not None for value in values])
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    place = np.full(len(values), -1, dtype=np.int64)
    if isinstance(domain, Choice):
        place[acts] = known
        return Gridded(place, len(domain.options), ordered)
    size, low, high = GRID, float(domain.low), float(domain.high)
    if isinstance(domain, Int):
        span = domain.high - domain.low + 1
        size = min(math.ceil(math.log2(span)) + 1 if domain.log else span, GRID)
    if domain.log:
        low, high, known = math.log(low), math.log(high), np.log(known)
    steps = np.ceil((known - low) / ((high - low) / (size - 1)) - 0.5)
    place[acts] = np.clip(steps, 0, size - 1).astype(np.int64)
    return Gridded(place, size, ordered=True)


def ped_anova(columns: Sequence[Gridded], score: NDArray[np.float64], best: float) -> NDArray[np.float64]:
    """Return the importance of each hyperparameter [D] for the share `best` of trials with the best score.

    `score` is [n], larger is better; trials with nan are left out.
    """
    kept = np.isfinite(score)
    out, n = np.zeros(len(columns)), int(kept.sum())
    if n < 2:
        return out
    loss = -score[kept]
    last = math.ceil(best * n) - 1
    top = loss <= np.partition(loss, last)[last]
    for index, one in enumerate(columns):
        place = one.place[kept]
        acts = place >= 0
        mine = acts & top
        if one.size < 2 or acts.sum() < 2 or not mine.any():
            continue
        among_best, among_all = (density(one, place[rows]) + 1e-12 for rows in (mine, acts))
        distance = among_all @ (among_best / among_all - 1) ** 2
        out[index] = (mine.sum() / top.sum()) ** 2 / (acts.sum() / n) * distance
    return out * (top.sum() / n) ** 2


def density(one: Gridded, place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the density [size] of places: kernels by Scott's rule, and a flat one that is one trial."""
    counts = np.bincount(place, minlength=one.size)
    key = counts.tobytes()
    if key not in one.known:
        one.known[key] = (_smooth if one.ordered else _apart)(counts)
    return one.known[key]


def _smooth(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    found, size = np.flatnonzero(counts), len(counts)
    weight = counts[found]
    upto = np.cumsum(weight)
    total = int(upto[-1])
    mean = found @ weight / total
    spread = np.sqrt((found - mean) ** 2 @ weight / max(1, total - 1))
    first = np.searchsorted(upto, total // 4, side="left")
    third = np.searchsorted(upto, total * 3 // 4, side="right")
    quartiles = found[min(len(found) - 1, int(third))] - found[int(first)]
    width = max(1.059 * min(quartiles / 1.34, spread) * total**-0.2, NARROWEST)
    below = ndtr((np.arange(-size, size + 1) - 0.5) / width)  # of a kernel, by the distance from its centre
    inside = below[2 * size - found] - below[size - found]  # the share of each kernel within the grid
    parts = np.zeros(size)
    parts[found] = weight / inside
    kernels: NDArray[np.float64] = np.convolve(parts, np.diff(below))[size : 2 * size]
    return (kernels + _flat(size)) / (total + 1)


@cache
def _flat(size: int) -> NDArray[np.float64]:
    """Return the kernel [size] in the middle that is as wide as the grid."""
    below = ndtr((np.arange(size + 1) - 0.5 - (size - 1) / 2) / size)
    out: NDArray[np.float64] = np.diff(below) / (below[-1] - below[0])
    return out


def _apart(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    size, kernels = len(counts), np.count_nonzero(counts) + 1
    own = (counts + counts.sum() / kernels) / (size / kernels + 1)
    out: NDArray[np.float64] = (own + 1 / size) / (counts.sum() + 1)
    return out
