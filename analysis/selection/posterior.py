"""Posterior of every trial's difference from the default: a mixed model over trials and class orders.

    value of a run = mean + effect of its trial + effect of its class order + noise

Effects and noise are normal. Their three variances are not known, so the posterior is the mean over a grid
of them, weighted by the restricted likelihood (Patterson and Thompson, Biometrika 58, 1971) under a flat
prior of the standard deviations. Given the variances, trial effects are Henderson's best linear unbiased
predictions. The effect of a trial is random over all trials of the search. So the best of many values is
taken back towards the mean, by as much as the noise explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

# Standard deviations of the grid, as multiples of the spread of values within class orders.
TRIALS = np.array([0.02, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25])
ORDERS = np.array([0.05, 0.3, 0.7, 1.5, 3.0, 6.0])
NOISE = np.array([0.02, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25])
NUMBERS_AT_ONCE = 4_000_000  # numbers of the matrices that are inverted together


@dataclass(frozen=True)
class Posterior:
    """The difference of every trial from the default, [T] each; higher is better."""

    difference: Floats  # posterior mean
    sd: Floats
    p_better: Floats  # 0 for the default itself

    @property
    def low(self) -> Floats:
        """The lower end [T] of the 95 % interval."""
        return self.difference - 1.96 * self.sd

    @property
    def high(self) -> Floats:
        """The upper end [T] of the 95 % interval."""
        return self.difference + 1.96 * self.sd


def posterior(
    trial: Index,
    order: Index,
    value: Floats,
    variance: Floats | None = None,
    points: Floats | None = None,
    default: int = 0,
) -> Posterior:
    """Return the posterior of T trials, from n runs.

    `trial`, `order` and `value` are [n]; `variance` [n] is the known part of the noise, such as that of
    finitely many validation rows. `points` [T, D] are the trials' values in the unit cube: they say how many
    trials there are, which may be more than have runs. Raises ValueError without a finite value.
    """
    if not len(value) or not np.isfinite(value).all():
        raise ValueError("a posterior needs values, all of them finite")
    count = int(trial.max()) + 1 if points is None else len(points)
    value = value - value.mean()
    known = np.zeros(len(value)) if variance is None else variance
    scale = _spread(order, value)
    if scale == 0.0:
        return Posterior(*np.zeros((3, count)))
    grid = scale * np.stack(np.meshgrid(TRIALS, ORDERS, NOISE, indexing="ij"), axis=-1).reshape(-1, 3)
    parts = [
        given(trial, order, value, known, some**2, default, count)
        for some in np.array_split(grid, max(1, len(grid) * count**2 // NUMBERS_AT_ONCE))
    ]
    weight, means, variances = (np.concatenate(found) for found in zip(*parts, strict=True))
    share = np.exp(weight - weight.max())[:, None]
    share /= share.sum()
    difference = (share * means).sum(axis=0)
    sd = np.sqrt((share * (variances + (means - difference) ** 2)).sum(axis=0))
    better = (share * norm.cdf(means / np.sqrt(np.maximum(variances, 1e-300)))).sum(axis=0)
    better[default] = 0.0
    return Posterior(difference, sd, better)


def given(
    trial: Index,
    order: Index,
    value: Floats,
    known: Floats,
    variances: Floats,
    default: int,
    count: int,
) -> tuple[Floats, Floats, Floats]:
    """Return, for each of G sets of variances, the restricted log-likelihood [G], and mean and variance
    [G, T] of the differences.

    `variances` [G, 3] are those of trials, class orders and noise; `known` [n] is added to the noise.
    Henderson's equations hold the mean, the effects of the class orders and those of the trials, in this
    order.
    """
    of_trials, of_orders, of_noise = variances.T[:, :, None]
    noise = known + of_noise  # [G, n]
    orders, rows = int(order.max()) + 1, np.arange(len(value))
    design = np.zeros((len(value), 1 + orders + count))
    design[:, 0] = 1.0
    design[rows, 1 + order] = 1.0
    design[rows, 1 + orders + trial] = 1.0
    weighed = design / noise[:, :, None]  # [G, n, 1 + O + T]
    equations = design.T @ weighed
    place = np.arange(1, design.shape[1])
    prior = np.hstack([np.repeat(1 / of_orders, orders, 1), np.repeat(1 / of_trials, count, 1)])
    equations[:, place, place] += prior
    covariance = np.linalg.inv(equations)
    right = value @ weighed  # [G, 1 + O + T]
    effects = (covariance @ right[:, :, None])[:, :, 0]
    logs = np.log(noise).sum(axis=1) - np.log(prior).sum(axis=1) + np.linalg.slogdet(equations)[1]
    explained = (effects * right).sum(axis=1)
    likelihood = -0.5 * (logs + (value**2 / noise).sum(axis=1) - explained)
    mine = slice(1 + orders, None)
    u, c = effects[:, mine], covariance[:, mine, mine]
    own = np.diagonal(c, axis1=1, axis2=2)
    spread = np.maximum(own + own[:, [default]] - 2 * c[:, default], 0.0)
    spread[:, default] = 0.0
    return likelihood, u - u[:, [default]], spread


def _spread(order: Index, value: Floats) -> float:
    """Return the standard deviation of values around the mean of their class order."""
    sums, counts = np.bincount(order, value), np.bincount(order)
    apart = value - (sums / np.maximum(counts, 1))[order]
    free = len(value) - int((counts > 0).sum())
    return float(np.sqrt((apart**2).sum() / free)) if free else 0.0
