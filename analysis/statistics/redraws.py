"""The winner of a cell's search under other draws of chance: other trials drawn, other
validation rows, other class orders. Everything is plain arrays; larger values are better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REDRAWS = 4000
"""Redraws of a cell in the report."""


@dataclass(frozen=True)
class Redrawn:
    """`another`: how likely another trial wins; `worse`: one that is more than `margin` below the
    winner; `loss`: how far below it the one that wins lies on average, all by the values first measured."""

    another: float
    worse: float
    loss: float


def by_draw(values: Array, ended: int, margin: float) -> Redrawn:
    """Redraws of all `ended` trials with replacement, exactly; `values` [n >= 1] are those of the
    completed ones, the others never win, and draws without a completed one are left out.

    The i-th best (i = 1, ...) is the best of a redraw with probability ((N-i+1)/N)^N - ((N-i)/N)^N.
    """
    ordered = np.sort(values)[::-1]
    rank = np.arange(1, len(ordered) + 1)
    wins = ((ended - rank + 1) / ended) ** ended - ((ended - rank) / ended) ** ended
    return _redrawn(wins / wins.sum(), ordered, 0, margin)


def by_noise(values: Array, errors: Array, margin: float, draw: np.random.Generator, draws: int) -> Redrawn:
    """Values measured anew: `values` [n] with independent normal errors of the standard errors `errors`
    [n]."""
    again = values + errors * draw.standard_normal((draws, len(values)))
    return _winners(again, values, margin)


def luck_of_rows(values: Array, errors: Array, draw: np.random.Generator, draws: int) -> float:
    """Return by how much the best of `values` [n] is expected to exceed its value on other rows.

    The values hold the noise of their rows once, with the standard errors `errors` [n]. It is added once and
    twice more, and the best is selected again: b2 and b3 are its gain by one noise. For normal values,
    1 / b^2 is a straight line in the variance of the noise, so it is extrapolated to the noise once (SIMEX;
    Cook & Stefanski, JASA 89, 1994).
    """
    noise = errors * draw.standard_normal((2, draws, len(values)))
    rows = np.arange(draws)
    once, twice = noise[0], noise[0] + noise[1]
    b2 = float(once[rows, (values + once).argmax(axis=1)].mean())
    b3 = float(twice[rows, (values + twice).argmax(axis=1)].mean()) / 2
    if min(b2, b3) <= 0:
        return max(0.0, b2)
    return b2 / float(np.sqrt(np.clip(2 - (b2 / b3) ** 2, 0.5, 1.0)))  # 0.5: noise alone, 1: none


def highest_by_chance(seen: Array, redrawn: Array, share: float = 0.05) -> Array:
    """Return [n] bounds, of which `seen` [n] exceeds any one in at most a share of cases by chance.

    `redrawn` [draws, n] is chance. Each bound is its own quantile, times a factor that all share (Westfall &
    Young, 1993, single-step max-T). What was seen counts as one of the draws: under chance it is any of them,
    so the share is exact however few draws there are.
    """
    every = np.vstack([seen, redrawn])
    alone = np.quantile(every, 1 - share, axis=0)
    alone = np.where(alone > 0, alone, 1.0)
    out: Array = alone * float(np.quantile((every / alone).max(axis=1), 1 - share, method="higher"))
    return out


def by_order(groups: Array, worst: bool, margin: float, draw: np.random.Generator, draws: int) -> Redrawn:
    """Class orders redrawn with replacement, the same ones for all trials; `groups` [n, orders] holds
    a trial's value on each."""
    picked = draw.integers(0, groups.shape[1], (draws, groups.shape[1]))
    value = np.min if worst else np.mean
    again = np.stack([value(groups[:, one], axis=1) for one in picked])
    return _winners(again, value(groups, axis=1), margin)


def order_errors(groups: Array) -> Array:
    """[n]: the standard error of each trial's mean by the spread of its class orders; `groups`
    [n, orders]."""
    out: Array = groups.std(axis=1, ddof=1) / np.sqrt(groups.shape[1])
    return out


def _winners(again: Array, values: Array, margin: float) -> Redrawn:
    """Find who wins in each row of `again` [draws, n], judged by `values` [n]."""
    counts = np.bincount(again.argmax(axis=1), minlength=len(values))
    return _redrawn(counts / len(again), values, int(values.argmax()), margin)


def _redrawn(wins: Array, values: Array, winner: int, margin: float) -> Redrawn:
    lost = values[winner] - values
    return Redrawn(float(1 - wins[winner]), float(wins[lost > margin].sum()), float(wins @ lost))
