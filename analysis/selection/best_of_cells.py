"""Trials of several cells of a scenario on one scale: draws of what each is worth on class orders at large.

    value of a run = mean + cell + f(trial) + effect of its class order + h(order, cell) + g(order, trial)
                     + error of its rows + noise

It is the model of `analysis.selection.posterior`, with an effect of each cell, of which nothing is known
before, and one of each cell on each class order, because methods take an order differently. Trials of
different cells say nothing of one another. Amplitudes, length scale and noise are averaged over in the same
way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from analysis.lake.results import Results
from analysis.lake.searched_space import spaces
from analysis.selection.confirmation import row_error
from analysis.selection.points import points
from analysis.selection.posterior import (
    NOISE,
    ORDER_AMPLITUDE,
    PER_ORDER,
    SMOOTH_AMPLITUDES,
    TRIAL_AMPLITUDE,
    TRIAL_AMPLITUDES,
    Floats,
    Index,
    matern,
)
from cl_core.records import SEARCHING

CELL_AMPLITUDE = 20.0  # of the effect of a cell; amplitudes as in the posterior
LENGTH_SCALES = (0.35, 0.8, 2.0)  # of the unit cube, the same along all axes: those of two cells differ
CELL_PER_ORDER = (0.25, 1.0)  # of the effect of a cell on one class order
RUNS_OF_A_SCENARIO = 400
"""Runs that the model uses: of trials that are not asked about every k-th where there are more."""
DRAWS = 4000

TrialKey = tuple[str, str]  # cell, digest of the trial


@dataclass(frozen=True)
class Model:
    """The runs of a scenario: [n] each, and their T trials."""

    value: Floats  # higher is better
    trial: Index
    order: Index
    error: Floats  # [n, n], covariance of the error of the rows
    cell: Index  # [T], of each trial
    apart: Floats  # [T, T], distance in the unit cube; infinite between cells


def draws_of_worth(results: Results, cells: Sequence[str], asked: Sequence[TrialKey]) -> Floats:
    """Return [DRAWS, asked], what each trial asked about is worth more than the first of them; higher is
    better.

    `cells` are those of one scenario; each trial asked about has a completed run.
    """
    _, direction = results.study.objective
    runs = results.runs
    runs = runs[runs["cell"].isin(cells) & runs["purpose"].isin(SEARCHING) & (runs["status"] == "completed")]
    runs = runs[runs["objective"].notna()]
    keys = list(zip(runs["cell"].astype(str), runs["trial_digest"].astype(str), strict=True))
    wanted = np.array([key in set(asked) for key in keys], dtype=bool)
    rest = np.flatnonzero(~wanted)
    room = max(1, RUNS_OF_A_SCENARIO - int(wanted.sum()))
    runs = runs.iloc[np.sort(np.concatenate([np.flatnonzero(wanted), rest[:: 1 + len(rest) // room]]))]
    return draws(_model(results, runs, 1.0 if direction == "max" else -1.0, asked), len(asked))


def _model(results: Results, runs: pd.DataFrame, sign: float, asked: Sequence[TrialKey]) -> Model:
    keys = list(zip(runs["cell"].astype(str), runs["trial_digest"].astype(str), strict=True))
    every = list(dict.fromkeys([*asked, *keys]))  # the trials asked about come first
    trial = np.array([every.index(key) for key in keys])
    names = list(dict.fromkeys(name for name, _ in every))
    cell = np.array([names.index(name) for name, _ in every])
    value = sign * runs["objective"].to_numpy(dtype=float)
    error = row_error(results, runs)
    return Model(
        value,
        trial,
        np.unique(runs["class_order"].astype(str), return_inverse=True)[1],
        np.zeros((len(value), len(value))) if error is None else smoothed(error, trial, cell),
        cell,
        _apart(results, runs.iloc[[keys.index(key) for key in every]]),
    )


def smoothed(error: Floats, trial: Index, cell: Index) -> Floats:
    """Return the covariance [n, n] of the rows, its mean over pairs of runs of the same kind.

    Pairs are of one run, of one trial, of one cell, or of two cells. A run that answers more rows right also
    varies more with its rows. Left as it is, the covariance would so explain differences between cells.
    """
    of_run, count = cell[trial], int(cell.max()) + 1
    one = np.eye(len(trial), dtype=bool)
    same = (trial[:, None] == trial[None, :]) & ~one
    sums, pairs = np.zeros((count, count)), np.zeros((count, count))
    at = np.broadcast_arrays(of_run[:, None], of_run[None, :])
    other = trial[:, None] != trial[None, :]
    np.add.at(sums, (at[0][other], at[1][other]), error[other])
    np.add.at(pairs, (at[0][other], at[1][other]), 1.0)
    between = sums / np.maximum(pairs, 1.0)
    diagonal = np.diag(error)
    for c in range(count):  # a cell of one trial has no pairs
        if not pairs[c, c]:
            between[c, c] = error[np.ix_(of_run == c, of_run == c)].mean()
    values, vectors = np.linalg.eigh(between)
    between = (vectors * np.maximum(values, 0.0)) @ vectors.T
    out: Floats = between[np.ix_(of_run, of_run)]
    for c in range(count):
        mine = (of_run[:, None] == c) & (of_run[None, :] == c)
        level = float(between[c, c])
        level = max(level, float(error[mine & same].mean()) if (mine & same).any() else level)
        out[mine & same] = level
        out[mine & one] = max(level, float(diagonal[of_run == c].mean()))
    return out


def _apart(results: Results, rows: pd.DataFrame) -> Floats:
    """Return the distances [T, T] of trials, a row each; infinite where a cell or its space is another."""
    out = np.full((len(rows), len(rows)), np.inf)
    known = spaces(results) or {}
    cell = rows["cell"].astype(str).to_numpy()
    for name in dict.fromkeys(cell):
        at = np.flatnonzero(cell == name)
        if name in known:
            place = points(known[name], rows.iloc[at])
            out[np.ix_(at, at)] = np.sqrt(((place[:, None, :] - place[None, :, :]) ** 2).sum(axis=2))
    np.fill_diagonal(out, 0.0)
    return out


def draws(model: Model, asked: int) -> Floats:
    """Return [DRAWS, asked] of the first `asked` trials less the first one, from the posterior.

    Raises ValueError for a value that is not finite.
    """
    if not np.isfinite(model.value).all():
        raise ValueError("a posterior needs values, all of them finite")
    value = model.value - model.value.mean()
    scale = max(_variance_within(model, value), float(np.diag(model.error).mean()))
    if scale == 0.0:  # equal values within cells, so only the cells tell trials apart
        means = np.array([value[model.trial == at].mean() for at in range(asked)])
        return np.tile(means - means[0], (DRAWS, 1))
    found = [_given(model, value, scale, *one, asked) for one in _grid(model, scale)]
    weights = np.array([logs for logs, _, _ in found])
    share = np.exp(weights - weights.max())
    draw = np.random.default_rng(0)  # the same advice for the same tables
    out = []
    for count, (_, mean, covariance) in zip(draw.multinomial(DRAWS, share / share.sum()), found, strict=True):
        if count:
            out.append(draw.multivariate_normal(mean, covariance, count, method="eigh"))
    return np.concatenate(out)


def _grid(model: Model, scale: float) -> Iterator[tuple[Floats, Floats, float]]:
    """Yield covariances [T, T] of trials at large and on one class order, and the variance of the noise."""
    count = len(model.cell)
    same = (model.cell[:, None] == model.cell[None, :]) * scale
    alone = scale * np.eye(count)
    with np.errstate(invalid="ignore"):
        near = [np.where(np.isfinite(model.apart), matern(model.apart / x), 0.0) for x in LENGTH_SCALES]
    pairs = [(own**2 * alone, np.zeros((count, count))) for own in TRIAL_AMPLITUDES]
    pairs += [
        (smooth**2 * scale * k + TRIAL_AMPLITUDE**2 * alone, (per * smooth) ** 2 * scale * k)
        for k, smooth, per in product(near, SMOOTH_AMPLITUDES, PER_ORDER)
    ]
    for (prior, per_order), of_cell, noise in product(pairs, CELL_PER_ORDER, NOISE):
        yield prior + CELL_AMPLITUDE**2 * same, per_order + of_cell**2 * same, noise**2 * scale


def _given(
    model: Model, value: Floats, scale: float, prior: Floats, per_order: Floats, noise: float, asked: int
) -> tuple[float, Floats, Floats]:
    """Return the restricted log-likelihood, and mean [asked] and covariance of the differences from the
    first."""
    trial, runs = model.trial, np.ix_(model.trial, model.trial)
    same = model.order[:, None] == model.order[None, :]
    covariance = prior[runs] + same * (per_order[runs] + ORDER_AMPLITUDE**2 * scale) + model.error
    covariance += noise * np.eye(len(value))
    root = cholesky(covariance, lower=True, check_finite=False)
    to_runs = (prior[:asked, trial] - prior[0, trial]).T
    right = np.column_stack([np.ones(len(value)), value, to_runs])
    solved = solve_triangular(root, right, lower=True, check_finite=False)
    one, y, cross = solved[:, 0], solved[:, 1], solved[:, 2:]
    weight = one @ one
    rest = y - (one @ y / weight) * one
    logs = 2 * np.log(np.diag(root)).sum() + np.log(weight) + float(rest @ rest)
    own = prior[:asked, :asked] - prior[:asked, :1] - prior[:1, :asked] + prior[0, 0]
    lost = cross.T @ one
    return float(-0.5 * logs), cross.T @ rest, own - cross.T @ cross + np.outer(lost, lost) / weight


def _variance_within(model: Model, value: Floats) -> float:
    """Return the variance of values around the mean of their cell and class order; 0 where not known."""
    _, group = np.unique(np.stack([model.cell[model.trial], model.order]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    sums, counts = np.bincount(group, value), np.bincount(group)
    apart: NDArray[np.float64] = value - (sums / counts)[group]
    free = len(value) - len(counts)
    return float((apart**2).sum() / free) if free else 0.0
