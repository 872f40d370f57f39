"""PED-ANOVA: how much a hyperparameter's density among the best trials differs from that among all.

Watanabe et al., "PED-ANOVA", IJCAI 2023; with branches as in "Conditional PED-ANOVA", KDD 2026. Numbers
are those of `optuna.importance.PedAnovaImportanceEvaluator`, for hundreds of redraws of the trials' scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import ndtr

from cl_core.hparams import Choice, Float, Int

_Array = NDArray[np.float64]

GRID = 50  # places of a range, at most
NARROWEST = 0.5 / 1.64  # bandwidth in places: 90 % of a kernel is in its own


@dataclass(frozen=True)
class Gridded:
    """One hyperparameter of every trial, as a place in its domain."""

    place: NDArray[np.int64]  # [n]; -1 where it does not act
    size: int  # places
    ordered: bool  # a place says something of its neighbours


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


def ped_anova(columns: Sequence[Gridded], scores: _Array, best: float) -> _Array:
    """Return the importance [m, D] of each hyperparameter for the share `best` of trials with the best score.

    `scores` [m, n] are m scores of n trials, larger is better; trials with nan are left out.
    """
    kept = np.isfinite(scores)
    n = kept.sum(axis=1)
    loss = np.where(kept, -scores, np.inf)
    last = np.maximum(np.ceil(best * n).astype(np.int64) - 1, 0)
    top = kept & (loss <= np.take_along_axis(np.sort(loss, axis=1), last[:, None], axis=1))
    wins = top.sum(axis=1)
    out = np.zeros((len(scores), len(columns)))
    for index, one in enumerate(columns):
        among_best, among_all = (_counts(one, rows) for rows in (top, kept))
        mine, every = among_best.sum(axis=1), among_all.sum(axis=1)
        some = np.flatnonzero((n >= 2) & (every >= 2) & (mine > 0))
        if one.size < 2 or not len(some):
            continue
        smooth = _smooth if one.ordered else _apart
        p_best, p_all = (smooth(counts[some]) + 1e-12 for counts in (among_best, among_all))
        distance = (p_all * (p_best / p_all - 1) ** 2).sum(axis=1)
        share = (mine[some] / wins[some]) ** 2 / (every[some] / n[some])
        out[some, index] = share * distance * (wins[some] / n[some]) ** 2
    return out


def _counts(one: Gridded, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the trials [m, size] at each place, of those that `rows` [m, n] marks."""
    row, trial = np.nonzero(rows & (one.place >= 0))
    known = np.bincount(row * one.size + one.place[trial], minlength=len(rows) * one.size)
    return known.reshape(len(rows), one.size)


def _smooth(counts: NDArray[np.int64]) -> _Array:
    """Return densities [m, size] of counts: kernels by Scott's rule, and a flat one that is one trial."""
    size, place = counts.shape[1], np.arange(counts.shape[1])
    upto = np.cumsum(counts, axis=1)
    total = upto[:, -1:]
    mean = counts @ place[:, None] / total
    spread = np.sqrt((counts * (place - mean) ** 2).sum(axis=1) / np.maximum(1, total[:, 0] - 1))
    first = np.argmax(upto >= np.maximum(total // 4, 1), axis=1)
    third = np.argmax(upto > total * 3 // 4, axis=1)
    width = 1.059 * np.minimum((third - first) / 1.34, spread) * total[:, 0] ** -0.2
    width = np.maximum(width, NARROWEST)[:, None]
    below = ndtr((np.arange(-size, size + 1) - 0.5) / width)  # of a kernel, by the distance from its centre
    inside = below[:, 2 * size - place] - below[:, size - place]  # the share of each kernel within the grid
    near = sliding_window_view(np.diff(below, axis=1), size, axis=1)[:, 1:]  # [m, place, centre], reversed
    kernels = np.einsum("mpc,mc->mp", near, (counts / inside)[:, ::-1])
    out: _Array = (kernels + _flat(size)) / (total + 1)
    return out


@cache
def _flat(size: int) -> _Array:
    """Return the kernel [size] in the middle that is as wide as the grid."""
    below = ndtr((np.arange(size + 1) - 0.5 - (size - 1) / 2) / size)
    out: _Array = np.diff(below) / (below[-1] - below[0])
    return out


def _apart(counts: NDArray[np.int64]) -> _Array:
    """Return densities [m, size] of the counts of values that have no order."""
    size, total = counts.shape[1], counts.sum(axis=1, keepdims=True)
    kernels = np.count_nonzero(counts, axis=1)[:, None] + 1
    own = (counts + total / kernels) / (size / kernels + 1)
    out: _Array = (own + 1 / size) / (total + 1)
    return out
