"""Gains of a search over the published default, without training: recorded class orders replayed.

A search draws random trials of a recorded cell and sees their validation rows. Its selection is judged on the
test rows of class orders that it has not seen, by a smooth fit over all trials there. Costs are counted in
image-steps: the unit is one run without its first task, and each class order pays its first task once. A
budget of B pays for B runs and one first task.

today      all trials on one class order, the best seen is selected
confirmed  all trials on one class order; the best three seen and the default on three fresh ones; the
           posterior selects, and keeps the default unless another is better with a probability of .8
spread     the trials in turn on one of two class orders, the default on both; the best three by the posterior
           and the default on two fresh ones; the posterior selects, with .7. The search does not do this yet.

`gain_at_30` and the others without a design are those of `confirmed`, what `cl-search run` does. Gains are
fractions of accuracy over the default, `low` is the end of the 95 % interval over seeds, and `worse` is the
share of seeds whose selection is more than .005 below the default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from analysis.selection.posterior import (
    LENGTH_SCALES,
    SMOOTH_AMPLITUDES,
    TRIAL_AMPLITUDE,
    Amplitudes,
    Posterior,
    given,
    matern,
    posterior,
)
from tests.search.replay.class_orders import Recorded, recorded

SEEDS = 200
BUDGETS = (10, 30, 60, 100)
TOP, FRESH, KEEP = 3, 3, 0.8  # as in spaces.study.confirmation and protocol.keep_default
WORSE = 0.005
NOISE = 0.005**2  # first guess of the noise: half of the counting error of 500 rows, over tasks

OURS = "confirmed"

Figures = dict[str, float]
Index = NDArray[np.int64]
Floats = NDArray[np.float64]
Design = Callable[[Recorded, int, np.random.Generator], tuple[int, Index]]


def measure(seeds: int = SEEDS, budgets: tuple[int, ...] = BUDGETS) -> dict[str, Figures]:
    """Return the figures of every recorded cell, and their means over the cells of a method, by name."""
    cells = recorded()
    out = {name: of_cell(cell, seeds, budgets) for name, cell in cells.items()}
    for method in sorted({cell.method for cell in cells.values()}):
        mine = [out[name] for name, cell in cells.items() if cell.method == method]
        out[method] = {figure: float(np.mean([cell[figure] for cell in mine])) for figure in mine[0]}
    return out


def of_cell(cell: Recorded, seeds: int, budgets: tuple[int, ...]) -> Figures:
    """Return the figures of one cell."""
    out: Figures = {}
    for budget in budgets:
        for name, design in DESIGNS.items():
            draws = [np.random.default_rng(seed) for seed in range(seeds)]
            gain, best = np.array([judged(cell, *design(cell, budget, rng)) for rng in draws]).T
            half = 1.96 * gain.std(ddof=1) / np.sqrt(seeds)
            at = f"at_{budget}"
            out |= {
                f"{name}_gain_{at}": float(gain.mean()),
                f"{name}_gain_{at}_low": float(gain.mean() - half),
                f"{name}_share_of_oracle_{at}": float(gain.mean() / best.mean()),
                f"{name}_worse_{at}": float((gain < -WORSE).mean()),
                f"{name}_oracle_gain_{at}": float(best.mean()),
            }
    for figure in ("gain_at_30", "gain_at_30_low", "share_of_oracle_at_30", "worse_at_30"):
        out[figure] = out[f"{OURS}_{figure}"]
    out["oracle_gain"] = out[f"{OURS}_oracle_gain_at_30"]
    return out


def judged(cell: Recorded, selected: int, orders: Index) -> tuple[float, float]:
    """Return the gain of a selection, and that of the best trial, on the class orders not in `orders`."""
    rest = tuple(order for order in range(cell.test.shape[1]) if order not in orders)
    gains = truth(cell.cell, rest)
    return float(gains[selected]), float(gains.max())


@cache
def truth(name: str, orders: tuple[int, ...]) -> Floats:
    """Return the gain [N] of every trial over the default on the test rows of some class orders, smoothed."""
    cell = recorded()[name]
    means = cell.test[:, list(orders)].mean(axis=(1, 2))
    count, one = len(means), np.zeros(len(means), dtype=np.int64)
    apart = np.sqrt(((cell.points[:, None] - cell.points[None]) ** 2).sum(axis=2))
    fits = [
        given(
            np.arange(count),
            one,
            means - means.mean(),
            NOISE / len(orders),
            Amplitudes(
                smooth**2 * matern(apart / length) + TRIAL_AMPLITUDE**2 * np.eye(count),
                np.zeros((count, count)),
            ),
            cell.default,
        )
        for length, smooth in product(LENGTH_SCALES, SMOOTH_AMPLITUDES)
    ]
    best: Floats = max(fits, key=lambda fit: fit[0])[1]
    return best


def drawn(cell: Recorded, count: int, rng: np.random.Generator) -> Index:
    """Return the default and `count` - 1 other trials, in random order."""
    others = np.delete(np.arange(len(cell.points)), cell.default)
    return np.array([cell.default, *rng.permutation(others)[: max(count, 1) - 1]])


def today(cell: Recorded, budget: int, rng: np.random.Generator) -> tuple[int, Index]:
    """Search on one class order, and select the best seen."""
    orders = rng.permutation(cell.test.shape[1])[:1]
    trials = drawn(cell, budget, rng)
    return int(trials[np.argmax(_values(cell, trials, orders[[0]]))]), orders


def confirmed(cell: Recorded, budget: int, rng: np.random.Generator) -> tuple[int, Index]:
    """Search on one class order, and confirm the best three seen, as `cl-search run` does."""
    return _confirmed(cell, budget, rng, 1, TOP, FRESH, KEEP)


def spread(cell: Recorded, budget: int, rng: np.random.Generator) -> tuple[int, Index]:
    """Search on two class orders in turn, and confirm the best three on fewer fresh ones."""
    return _confirmed(cell, budget, rng, 2, TOP, 2, 0.7)


def _confirmed(
    cell: Recorded, budget: int, rng: np.random.Generator, searched: int, top: int, fresh: int, keep: float
) -> tuple[int, Index]:
    count = int(budget - (searched - 1) * (1 + cell.base) - (top + 1) * fresh - fresh * cell.base)
    if count < top + 1:  # too little is left to search
        return today(cell, budget, rng)
    orders = rng.permutation(cell.test.shape[1])
    trials = drawn(cell, count, rng)
    trial = np.array([*np.zeros(searched, dtype=int), *range(1, count)])
    order = np.array([*range(searched), *(np.arange(1, count) % searched)])
    if searched > 1:  # values of different class orders do not compare
        rank = _posterior(cell, trials, trial, order, orders).difference
    else:
        rank = _values(cell, trials, orders[order])
    best = [int(t) for t in np.argsort(-rank, kind="stable") if t][:top]
    trial = np.array([*trial, *np.repeat([0, *best], fresh)])
    order = np.array([*order, *np.tile(np.arange(searched, searched + fresh), top + 1)])
    found = _posterior(cell, trials, trial, order, orders)
    passed = [t for t in best if found.p_better[t] >= keep]
    selected = max(passed, key=lambda t: float(found.difference[t]), default=0)
    return int(trials[selected]), orders[: searched + fresh]


DESIGNS: dict[str, Design] = {"today": today, "confirmed": confirmed, "spread": spread}


def _values(cell: Recorded, trials: Index, orders: Index) -> Floats:
    """Return the average incremental accuracy [n] of some trials on some class orders, on validation rows."""
    values: Floats = cell.validation[trials, orders].mean(axis=-1)
    return values


def _posterior(cell: Recorded, trials: Index, trial: Index, order: Index, orders: Index) -> Posterior:
    values = _values(cell, trials[trial], orders[order])
    return posterior(trial, order, values, np.full(len(values), NOISE), cell.points[trials])
