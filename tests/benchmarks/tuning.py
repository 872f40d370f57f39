"""Gains of a search over the published default, without training: recorded class orders replayed.

TPE proposes trials of a recorded cell, and sees their validation rows. Its selection is judged on the
test rows of class orders that it has not seen, by a smooth fit over all trials there. Costs are counted in
image-steps: the unit is one run without its first task, and each class order pays its first task once. A
budget of B pays for B runs and one first task.

today  all trials on one class order, the best seen is selected
ours   what `cl-search run` does with the budget (spaces.study.search_defaults): trials take class orders in
       turn, and the most promising ones and the default are confirmed on fresh ones. The posterior selects,
       and keeps the default unless another trial is better with a probability of .7

`gain_at_30` and the others without a design are those of `ours`. Gains are fractions of accuracy over
the default, `low` is the end of the 95 % interval over seeds, and `worse` is the share of seeds whose
selection is more than .005 below the default. On the few class orders that are left to judge on, equal trials
differ as well. So `worse_on_all` counts the same on the test rows of all recorded class orders.
`standardised_error_sd_at_30` is the standard deviation of the errors of confirmed trials, each the posterior
mean minus the gain on all class orders, in posterior standard deviations. It is 1 where intervals hold.
`reachable_gain` is what the best trial of half the class orders, known from all of its test rows there, gains
on the other half. A search sees less than that, so no rule reaches the oracle's gain, which includes the
luck of the judging class orders. Where it is below zero, the default is the best and has no share.
`work_for_our_gain_at_30` is the budget with which `today` gains as much as `ours` at 30, over 30. It is
between the least and the largest budget over 30, also where `today` would need less, or more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import combinations, islice, product, repeat
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.selection.posterior import (
    NOISE,
    SMOOTH_AMPLITUDES,
    TRIAL_AMPLITUDE,
    Posterior,
    matern,
    posterior,
)
from analysis.selection.row_covariance import covariance
from spaces.study.confirmation import ConfirmPart
from spaces.study.search_defaults import CONFIRMED, SPREAD, paid
from tests.search.replay.class_orders import Recorded, recorded
from tests.search.replay.proposals import proposals

SEEDS = 200
BUDGETS = (10, 30, 60, 100)
KEEP = 0.7  # protocol.keep_default
WORSE = 0.005
LENGTH_SCALES = (0.35, 0.8, 2.0)  # of the fit that judges

OURS = "ours"

Figures = dict[str, float]
Index = NDArray[np.int64]
Floats = NDArray[np.float64]
Design = Callable[[Recorded, int, int], tuple[int, Index]]  # from cell, budget and seed


def measure(seeds: int = SEEDS, budgets: tuple[int, ...] = BUDGETS) -> dict[str, Figures]:
    """Return the figures of every recorded cell, and their means over the cells of a method, by name."""
    cells = recorded()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        found = processes.map(of_cell, cells.values(), repeat(seeds), repeat(budgets))
        out = dict(zip(cells, found, strict=True))
    for method in sorted({cell.method for cell in cells.values()}):
        mine = [out[name] for name, cell in cells.items() if cell.method == method]
        out[method] = {figure: float(np.mean([cell[figure] for cell in mine])) for figure in mine[0]}
    return out


def of_cell(cell: Recorded, seeds: int, budgets: tuple[int, ...]) -> Figures:
    """Return the figures of one cell."""
    out: Figures = {}
    for budget in budgets:
        for name, design in DESIGNS.items():
            found = [judged(cell, *design(cell, budget, seed)) for seed in range(seeds)]
            gain, best, on_all = np.array(found).T
            half = 1.96 * gain.std(ddof=1) / np.sqrt(seeds)
            at = f"at_{budget}"
            out |= {
                f"{name}_gain_{at}": float(gain.mean()),
                f"{name}_gain_{at}_low": float(gain.mean() - half),
                f"{name}_share_of_oracle_{at}": float(gain.mean() / best.mean()),
                f"{name}_worse_{at}": float((gain < -WORSE).mean()),
                f"{name}_worse_on_all_{at}": float((on_all < -WORSE).mean()),
                f"{name}_oracle_gain_{at}": float(best.mean()),
            }
    for figure in ("gain_at_30", "gain_at_30_low", "share_of_oracle_at_30", "worse_at_30"):
        out[figure] = out[f"{OURS}_{figure}"]
    out["oracle_gain"] = out[f"{OURS}_oracle_gain_at_30"]
    out["reachable_gain"] = reachable_gain(cell)
    if out["reachable_gain"] > 0:
        out["share_of_reachable_at_30"] = out["gain_at_30"] / out["reachable_gain"]
    out["standardised_error_sd_at_30"] = standardised_error(cell, 30, seeds)
    gains = {budget: out[f"today_gain_at_{budget}"] for budget in budgets}
    out["work_for_our_gain_at_30"] = budget_for(out["gain_at_30"], gains) / 30
    return out


def budget_for(gain: float, gains: Mapping[int, float]) -> float:
    """Return the budget for a gain, between the budgets of `gains` that are nearest to it."""
    best = np.maximum.accumulate(list(gains.values()))  # a smaller budget that gains more is enough
    return float(np.interp(gain, best, list(gains)))


def judged(cell: Recorded, selected: int, orders: Index) -> tuple[float, float, float]:
    """Return the gain of a selection, and that of the best trial, on the class orders not in `orders`.

    The third number is the gain of the selection on all class orders.
    """
    every = tuple(range(cell.test.shape[1]))
    gains = truth(cell.cell, tuple(order for order in every if order not in orders))
    return float(gains[selected]), float(gains.max()), float(truth(cell.cell, every)[selected])


def reachable_gain(cell: Recorded) -> float:
    """Return the mean gain on half the class orders of the trial that is best on the other half."""
    every = set(range(cell.test.shape[1]))
    gains = [
        truth(cell.cell, tuple(sorted(every - set(half))))[truth(cell.cell, half).argmax()]
        for half in combinations(sorted(every), len(every) // 2)
    ]
    return float(np.mean(gains))


@cache
def truth(name: str, orders: tuple[int, ...]) -> Floats:
    """Return the gain [N] of every trial over the default on the test rows of some class orders, smoothed.

    The fits are those of `analysis.selection.posterior.given` without effects of class orders. In the
    eigenvectors of f's covariance, the covariance of the values is diagonal.
    """
    cell = recorded()[name]
    means = cell.test[:, list(orders)].mean(axis=(1, 2))
    scale = float(means.var())
    means = means - means.mean()
    best, found = -np.inf, np.zeros(len(means))
    for (variances, vectors), smooth, noise in product(_axes(name), SMOOTH_AMPLITUDES, NOISE):
        trials = scale * (smooth**2 * variances + TRIAL_AMPLITUDE**2)
        whole = trials + scale * noise**2
        one, value = vectors.sum(axis=0), means @ vectors
        weight = (one**2 / whole).sum()
        rest = value - one * (one * value / whole).sum() / weight
        likelihood = -0.5 * (np.log(whole).sum() + np.log(weight) + (rest**2 / whole).sum())
        if likelihood > best:
            best, found = likelihood, vectors @ (trials * rest / whole)
    return found - found[cell.default]


@cache
def _axes(name: str) -> list[tuple[Floats, Floats]]:
    """Return eigenvalues [N] and eigenvectors [N, N] of the covariance of f, for each length scale."""
    points = recorded()[name].points
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    return [tuple(np.linalg.eigh(matern(apart / length))) for length in LENGTH_SCALES]


def today(cell: Recorded, budget: int, seed: int) -> tuple[int, Index]:
    """Search on one class order, and select the best seen."""
    order, proposed = _on_one_order(cell.cell, seed)
    seen = cell.validation[:, order].mean(axis=1)
    # A budget for every recorded trial needs no proposals, which take most of the time.
    trials = proposed.first(budget) if budget < len(seen) else range(len(seen))
    return max(trials, key=lambda trial: float(seen[trial])), np.array([order])


class _Proposed:
    """Trials that a search proposes, kept for searches of larger budgets that begin alike."""

    def __init__(self, proposals: Iterator[int]) -> None:
        self._more, self._known = proposals, list[int]()

    def first(self, count: int) -> list[int]:
        """Return the first `count` trials; of fewer recorded ones, all."""
        self._known += islice(self._more, max(0, count - len(self._known)))
        return self._known[:count]


@cache
def _on_one_order(name: str, seed: int) -> tuple[int, _Proposed]:
    """Return a class order, and the trials of the search on it."""
    cell, rng = recorded()[name], np.random.default_rng(seed)
    order = int(rng.integers(cell.test.shape[1]))
    seen = cell.validation[:, order].mean(axis=1)
    return order, _Proposed(proposals(cell, rng, lambda place, trial: float(seen[trial])))


@cache
def _in_turns(name: str, seed: int, turns: int) -> tuple[Index, Floats, _Proposed]:
    """Return the class orders in random order, what trials [N] show on the first `turns`, and the trials.

    What is shown is without the effects of the class orders, which the default tells.
    """
    cell, rng = recorded()[name], np.random.default_rng(seed)
    orders = rng.permutation(cell.test.shape[1])
    means = cell.validation[:, orders[:turns]].mean(axis=2)
    known = means - means[cell.default] + means[cell.default, 0]
    return orders, known, _Proposed(proposals(cell, rng, lambda place, at: float(known[at, place % turns])))


def ours(cell: Recorded, budget: int, seed: int) -> tuple[int, Index]:
    """Search and confirm as a study does that names only its number of trials."""
    return _confirmed(cell, budget, seed, paid(SPREAD, budget, 1), paid(CONFIRMED, budget, None))


def standardised_error(cell: Recorded, budget: int, seeds: int) -> float:
    """Return the standard deviation of the errors of the trials that `ours` confirms, in posterior ones."""
    gains = truth(cell.cell, tuple(range(cell.test.shape[1])))
    turns, confirm = paid(SPREAD, budget, 1), paid(CONFIRMED, budget, None)
    errors: list[float] = []
    for seed in range(seeds):
        search = _searched(cell, budget, seed, turns, confirm)
        if search is not None:
            best, found = search.best, search.found
            errors += list((gains[search.trials[best]] - found.difference[best]) / found.sd[best])
    return float(np.std(errors))


def _confirmed(
    cell: Recorded, budget: int, seed: int, turns: int, confirm: ConfirmPart | None
) -> tuple[int, Index]:
    search = None if confirm is None else _searched(cell, budget, seed, turns, confirm)
    if search is None:
        return today(cell, budget, seed)
    found = search.found
    passed = [t for t in search.best if found.p_better[t] >= KEEP]
    selected = max(passed, key=lambda t: float(found.difference[t]), default=0)
    return int(search.trials[selected]), search.orders


class _Search(NamedTuple):
    """A search: its trials, places there of those that were confirmed, their posterior, its class orders."""

    trials: Index
    best: list[int]
    found: Posterior
    orders: Index


def _searched(cell: Recorded, budget: int, seed: int, turns: int, confirm: ConfirmPart) -> _Search | None:
    """Carry out a search and its confirmation; None where the budget leaves too little to search."""
    top, fresh = confirm.top, confirm.orders
    count = int(budget - (turns - 1) * (1 + cell.base) - (top + 1) * fresh - fresh * cell.base)
    if count < top + 1:
        return None
    orders, known, proposed = _in_turns(cell.cell, seed, turns)
    trials = np.array(proposed.first(count), dtype=np.int64)
    trial = np.array([*np.zeros(turns, dtype=int), *range(1, count)])  # the default first, on each
    order = np.array([*range(turns), *(np.arange(1, count) % turns)])
    promise = posterior(trial, order, known[trials[trial], order], points=cell.points[trials]).difference
    best = [int(place) for place in np.argsort(-promise, kind="stable") if place][:top]
    trial = np.array([*trial, *np.repeat([0, *best], fresh)])
    order = np.array([*order, *np.tile(np.arange(turns, turns + fresh), top + 1)])
    values = cell.validation[trials[trial], orders[order]].mean(axis=-1)
    error = covariance(cell.shares[trials[trial], orders[order]], cell.classes)
    found = posterior(trial, order, values, error, cell.points[trials])
    return _Search(trials, best, found, orders[: turns + fresh])


DESIGNS: dict[str, Design] = {"today": today, "ours": ours}
