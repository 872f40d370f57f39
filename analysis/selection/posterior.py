"""Posterior of every trial's difference from the default: a Gaussian process with effects of class orders.

    value of a run = mean + f(trial) + effect of its class order + g(order, trial) + error of its rows + noise

f is smooth over the searched values (Matérn 5/2 over the unit cube), plus an effect of each trial alone. It
varies faster along at most one axis, such as the learning rate, and which one is not known. g is as smooth
as f and belongs to one class order. On recorded grids it is as large as f: the best trial of one class order
is often not that of another (tests/search/replay). So runs on more class orders say more than more runs.

All runs are measured on the same few rows, which favour some trials over others. This error is the same on
every class order, so more runs do not lessen it. Its covariance between runs is known from their answers row
by row (`analysis.selection.row_covariance`).

Runs of trials that share a training (`search.reuse`) have most of their noise in common: the correlation is
`SHARED_NOISE`, measured by training again with other seeds (`python -m tests.benchmarks reuse`).

Amplitudes, length scale and noise are not known. The posterior is the mean over a grid of them, weighted by
the restricted likelihood (Patterson and Thompson, Biometrika 58, 1971). The effect of a trial is random over
all trials of the search: the best of many values is taken back towards the mean, by as much as noise and
rows explain. Source of the model: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
sections 2.7 and 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtrs
from scipy.special import ndtr

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

# The grid. Amplitudes are standard deviations, as multiples of that of all values within their class order.
NOISE = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
SHORT, LONG = 0.35, 1.5  # length scales of f: along at most one axis of the unit cube, and along all others
SMOOTH_AMPLITUDES = (0.25, 0.5, 1.0, 2.0)  # amplitude of f
PER_ORDER = (0.5, 1.0)  # amplitude of g over that of f
TRIAL_AMPLITUDES = (0.25, 0.5, 1.0, 2.0)  # amplitude of the effect of each trial, where it is alone
TRIAL_AMPLITUDE = 0.1  # the same beside f
P_EQUAL = 0.25  # prior probability that no trial differs from another
ORDER_AMPLITUDE = 10.0  # amplitude of the effect of a class order
SHARED_NOISE = 0.5  # correlation of the noise of two runs with one training


@dataclass(frozen=True)
class Posterior:
    """The difference of each trial asked for from the default, [A] each; higher is better."""

    difference: Floats  # posterior mean
    sd: Floats
    p_better: Floats  # 0 for the default itself

    @property
    def low(self) -> Floats:
        """The lower end [A] of the 95 % interval."""
        return self.difference - 1.96 * self.sd

    @property
    def high(self) -> Floats:
        """The upper end [A] of the 95 % interval."""
        return self.difference + 1.96 * self.sd


@dataclass(frozen=True)
class Amplitudes:
    """One point of the grid: covariances between trials."""

    trials: Floats  # [T, T] of f and the effects of trials alone
    per_order: Floats  # [T, T] of g, between runs on the same class order


@dataclass(frozen=True)
class _Effect:
    """Covariances of an effect of trials, and of the A differences from the default."""

    runs: Floats  # [n, n], between the runs
    cross: Floats  # [n, A], between the runs and the differences
    own: Floats  # [A], variances of the differences

    @classmethod
    def of(cls, prior: Floats, trial: Index, default: int, asked: Index) -> _Effect:
        """Take what is needed of the covariance [T, T] of the trials."""
        cross = (prior[np.ix_(asked, trial)] - prior[default, trial]).T
        own = np.diag(prior)[asked] + prior[default, default] - 2 * prior[asked, default]
        return cls(prior[np.ix_(trial, trial)], cross, own)


def posterior(
    trial: Index,
    order: Index,
    value: Floats,
    error: Floats | None = None,
    points: Floats | None = None,
    default: int = 0,
    training: Index | None = None,
    asked: Index | None = None,
) -> Posterior:
    """Return the posterior of the trials `asked` [A] among T, or of all, from n runs.

    `trial`, `order` and `value` are [n]; `error` [n, n] is the covariance of the error that finitely many
    rows leave in the values, without it none. `points` [T, D] are the trials' values in the unit cube;
    without them no trial says anything of another. `training` [n] is equal for runs that share a training;
    without it every run has its own. Raises ValueError without a finite value.
    """
    if not len(value) or not np.isfinite(value).all():
        raise ValueError("a posterior needs values, all of them finite")
    count = int(trial.max()) + 1 if points is None else len(points)
    asked = np.arange(count) if asked is None else asked
    value = value - value.mean()
    error = np.zeros((len(value), len(value))) if error is None else error
    scale = max(_variance_within(order, value), float(np.diag(error).mean()))
    if scale == 0.0:  # equal values, and nothing else tells how far another run would differ
        return Posterior(*np.zeros((3, len(asked))))
    same = order[:, None] == order[None, :]
    known = error + same * ORDER_AMPLITUDE**2 * scale
    noise_of = np.eye(len(value))
    if training is not None:
        shares = training[:, None] == training[None, :]
        noise_of = np.where(noise_of, 1.0, SHARED_NOISE * shares)
    noises = [share**2 * scale * noise_of for share in NOISE]
    alone = _Effect.of(scale * np.eye(count), trial, default, asked)
    apart = () if points is None else distances(points)
    near = (_Effect.of(scale * matern(one), trial, default, asked) for one in apart)
    found, whole = [], np.empty_like(known)
    for without in _grid(known, same, alone, near):
        for noise in noises:
            np.add(without.runs, noise, out=whole)
            found.append(_given(value, whole, without.cross, without.own, asked == default))
    weights, means, variances = (np.array(part) for part in zip(*found, strict=True))
    weights[: len(NOISE)] += np.log((len(found) // len(NOISE) - 1) * P_EQUAL / (1 - P_EQUAL))
    share = np.exp(weights - weights.max())
    share /= share.sum()
    difference = share @ means
    sd = np.sqrt(share @ (variances + (means - difference) ** 2))
    better = share @ ndtr(means / np.sqrt(np.maximum(variances, 1e-300)))
    better[asked == default] = 0.0
    return Posterior(difference, sd, better)


def given(
    trial: Index,
    order: Index,
    value: Floats,
    known: Floats,
    noise: float,
    amplitudes: Amplitudes,
    default: int,
    correlation: Floats | None = None,
) -> tuple[float, Floats, Floats]:
    """Return the restricted log-likelihood, and mean and variance [T] of the differences.

    `known` [n, n] is the covariance of what class orders and rows add, `noise` the variance of the noise. The
    noise of two runs is independent without a `correlation` [n, n].
    """
    correlation = np.eye(len(value)) if correlation is None else correlation
    asked = np.arange(len(amplitudes.trials))
    effect = _Effect.of(amplitudes.trials, trial, default, asked)
    per_order = (order[:, None] == order[None, :]) * amplitudes.per_order[np.ix_(trial, trial)]
    whole = effect.runs + per_order + known + noise * correlation
    return _given(value, whole, effect.cross, effect.own, asked == default)


def _given(
    value: Floats, covariance: Floats, to_runs: Floats, own: Floats, default: NDArray[np.bool_]
) -> tuple[float, Floats, Floats]:
    """As `given`, of A differences, of which `default` [A] marks that of the default from itself.

    `covariance` [n, n] is that of the runs, and is overwritten; `to_runs` and `own` are as in `_Effect`.
    """
    # The transpose of a symmetric matrix is itself, in the layout that LAPACK takes without a copy.
    root, fault = dpotrf(covariance.T, lower=1, clean=0, overwrite_a=1)
    if fault:
        raise np.linalg.LinAlgError(f"the covariance of {len(value)} runs is not positive definite")
    sides = np.column_stack([np.ones(len(value)), value, to_runs])
    solved, _ = dtrtrs(root, sides, lower=1)
    one, y, cross = solved[:, 0], solved[:, 1], solved[:, 2:]
    weight = one @ one
    rest = y - (one @ y / weight) * one
    logs = 2 * np.log(np.diag(root)).sum() + np.log(weight) + float(rest @ rest)
    spread = own - (cross**2).sum(axis=0) + (cross.T @ one) ** 2 / weight  # the mean is not known either
    spread = np.maximum(spread, 0.0)
    spread[default] = 0.0
    return float(-0.5 * logs), cross.T @ rest, spread


def _grid(
    known: Floats, same: NDArray[np.bool_], alone: _Effect, near: Iterable[_Effect]
) -> Iterator[_Effect]:
    """Yield the points of the grid without noise, first the one on which no trial differs.

    `alone` and `near` are the effects of amplitude 1: of each trial alone, and of f by its length scales.
    `same` [n, n] tells of equal class orders, `known` is added between runs.
    """
    for own in (0.0, *TRIAL_AMPLITUDES):
        yield _Effect(known + own**2 * alone.runs, own**2 * alone.cross, own**2 * alone.own)
    beside = TRIAL_AMPLITUDE**2
    rest = known + beside * alone.runs
    for one in near:
        on_order = same * one.runs
        for smooth, per_order in product(SMOOTH_AMPLITUDES, PER_ORDER):
            yield _Effect(
                smooth**2 * one.runs + (smooth * per_order) ** 2 * on_order + rest,
                smooth**2 * one.cross + beside * alone.cross,
                smooth**2 * one.own + beside * alone.own,
            )


def distances(points: Floats) -> Iterator[Floats]:
    """Yield distances [T, T] of points [T, D] in length scales: long ones, then with each axis short in turn.

    Axes along which all points are equal are left out.
    """
    squares = (points[:, None, :] - points[None, :, :]) ** 2
    whole = squares.sum(axis=2) / LONG**2
    yield np.sqrt(whole)
    for axis in np.flatnonzero(squares.any(axis=(0, 1))):
        yield np.sqrt(whole + squares[:, :, axis] * (SHORT**-2 - LONG**-2))


def matern(distance: Floats) -> Floats:
    """Return the Matérn 5/2 correlation at distances in length scales."""
    scaled = np.sqrt(5.0) * distance
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _variance_within(order: Index, value: Floats) -> float:
    """Return the variance of values around the mean of their class order; 0 where it is not known."""
    sums, counts = np.bincount(order, value), np.bincount(order)
    apart = value - (sums / np.maximum(counts, 1))[order]
    free = len(value) - int((counts > 0).sum())
    return float((apart**2).sum() / free) if free else 0.0
