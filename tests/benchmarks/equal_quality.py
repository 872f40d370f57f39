"""The work of plain Tune and of `run` for selections of equal quality, by replaying recorded class orders.

plain  a Tune function with OptunaSearch and ASHAScheduler: TPE on one class order, one trial at a time. Each
       trial trains its first task anew. Tune's ASHA stops it by the average incremental accuracy so far, and
       Optuna learns that value. The best of those that ran to the end is selected. The published default
       comes first, which plain Tune would not do.
ours   what `cl-search run` does with a budget, without a stopper (`tests.benchmarks.tuning`)

Gains are those of `tests.benchmarks.tuning`: on the test rows of class orders that a search has not seen,
over the published default, as means over searches. Work is counted in image-steps.

`plain_for_our_gain` is the work with which plain gains as much as ours with a budget of 30, over that of
ours. It is a lower bound where `reached` is 0: plain gains less with all trials of the grid.
`for_gain_of_plain` is the work of plain with 30 trials, over that with which ours gains as much. Where
`exact` is 0 it is a bound: a lower one if ours gains more with its least budget, an upper one if ours gains
less with a budget of 30.
`equal_trials` is the work of plain with 30 trials over that of ours with a budget of 30, whatever they
gain.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.tuning import judged, ours
from tests.search.replay.class_orders import Recorded, recorded
from tests.search.replay.proposals import proposals

SEEDS = 100
TRIALS = 30  # of plain Tune, and the budget of ours
BUDGETS = (10, 15, 20, 25, 30)
METRIC = "average_incremental_accuracy"

Figures = dict[str, float]
Floats = NDArray[np.float64]


class Asha:
    """Tune's ASHA with its defaults, for the trials of a cell on one class order, one after another."""

    def __init__(self, tasks: int) -> None:
        from ray.tune.schedulers import ASHAScheduler

        self._scheduler: Any = ASHAScheduler(metric=METRIC, mode="max", max_t=tasks)

    def tasks(self, name: str, values: Floats) -> int:
        """Return the tasks that a trial trains; `values` [T] are the metric after each."""
        from ray.tune.schedulers import TrialScheduler

        trial = SimpleNamespace(trial_id=name)
        self._scheduler.on_trial_add(None, trial)
        for done, value in enumerate(values.tolist(), start=1):
            result = {"training_iteration": done, METRIC: value}
            if self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                return done
        return len(values)


def plain(cell: Recorded, seed: int) -> tuple[Floats, Floats]:
    """Return gain [N] and image-steps [N] of plain Tune after each of its trials, all those of the grid."""
    rng = np.random.default_rng(seed)
    order = int(rng.integers(cell.test.shape[1]))
    seen = cell.validation[:, order]
    so_far = seen.cumsum(axis=1) / np.arange(1, seen.shape[1] + 1)
    asha, trained = Asha(seen.shape[1]), dict[int, int]()

    def told(place: int, trial: int) -> float:
        trained[trial] = asha.tasks(str(trial), so_far[trial])
        return float(so_far[trial, trained[trial] - 1])

    gains, work, best, steps = [], [], cell.default, 0
    for trial in islice(proposals(cell, rng, told), len(seen)):
        whole = trained[trial] == seen.shape[1]
        if whole and (not gains or so_far[trial, -1] > so_far[best, -1]):
            best = trial
        steps += int(cell.images[trial, order, : trained[trial]].sum())
        gains.append(judged(cell, best, np.array([order]))[0])
        work.append(steps)
    return np.array(gains), np.array(work, dtype=float)


def of_cell(cell: Recorded, seeds: int) -> Figures:
    """Return the figures of one cell."""
    found = [plain(cell, seed) for seed in range(seeds)]
    gain, work = (np.mean([each[k] for each in found], axis=0) for k in (0, 1))
    run = float(cell.images[:, :, 1:].sum(axis=2).mean())
    own_work = (np.array(BUDGETS) + cell.base) * run
    own = np.array(
        [np.mean([judged(cell, *ours(cell, budget, seed))[0] for seed in range(seeds)]) for budget in BUDGETS]
    )
    needed, reached = work_for(float(own[-1]), gain, work)
    less, exact = work_for(float(gain[TRIALS - 1]), own, own_work)
    exact &= gain[TRIALS - 1] > own[0]
    return {
        "plain_for_our_gain": round(needed / own_work[-1], 2),
        "reached": float(reached),
        "for_gain_of_plain": round(work[TRIALS - 1] / less, 2),
        "exact": float(exact),
        "our_gain": round(float(own[-1]), 4),
        "plain_gain": round(float(gain[TRIALS - 1]), 4),
        "plain_gain_of_the_grid": round(float(gain.max()), 4),
        "equal_trials": round(work[TRIALS - 1] / own_work[-1], 2),
    }


def work_for(wanted: float, gain: Floats, work: Floats) -> tuple[float, bool]:
    """Return the work with which a search first gains as much, and whether it ever does."""
    if wanted > gain.max():
        return float(work[-1]), False
    k = int(np.argmax(gain >= wanted))
    if not k:
        return float(work[0]), True
    part = (wanted - gain[k - 1]) / (gain[k] - gain[k - 1])
    return float(work[k - 1] + part * (work[k] - work[k - 1])), True


def measure(seeds: int = SEEDS) -> dict[str, Figures]:
    """Return the figures of every recorded cell, by name."""
    cells = recorded()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        return dict(zip(cells, processes.map(of_cell, cells.values(), repeat(seeds)), strict=True))
