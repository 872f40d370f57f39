"""When a trial is stopped early: one Optuna pruner per cell, asked at task boundaries.

Trials are compared at equal step within their cell, so accuracy that falls from task to task does no harm.
A step is a task, 0-based; further runs of a configuration (class orders, seeds) count on. Nobody is stopped
before the second task has ended: the first one shows no forgetting.
"""

from __future__ import annotations

import math

from optuna import Study
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import FrozenTrial

from cl_core.errors import BadRequest, unknown

STOPPERS = ("none", "asha", "hyperband", "median")
FIRST_STEP = 1  # the earliest step at which a trial may be stopped: the end of its second task
FACTOR = 3  # a third of the trials passes a rung


def pruner(stopper: str, tasks: int, runs: int = 1) -> BasePruner:
    """The pruner of a cell with so many tasks a run and runs a configuration.

    none; asha: rungs after 2, 4, 10, ... tasks; hyperband: brackets whose first rung is later and later;
    median: stops what is worse than the median of completed trials, once there are five. Raises BadRequest
    for an unknown name, and for any but none where there is a single task.
    """
    if stopper not in STOPPERS:
        raise unknown("stopper", stopper, STOPPERS)
    if stopper == "none":
        return NopPruner()
    if tasks < 2:
        raise BadRequest(
            f"search.stopper {stopper} compares trials after their second task, but there is one: use none"
        )
    if stopper == "asha":
        return SuccessiveHalvingPruner(min_resource=FIRST_STEP, reduction_factor=FACTOR)
    if stopper == "hyperband":
        last = tasks * runs - 1
        return HyperbandPruner(min_resource=FIRST_STEP, max_resource=max(1, last), reduction_factor=FACTOR)
    return MedianPruner(n_startup_trials=5, n_warmup_steps=FIRST_STEP)


def should_stop(study: Study, trial: FrozenTrial, last_step: int) -> bool:
    """Whether the cell's pruner stops `trial` after its last reported step; never before the second task's
    end, and never after the last step, where nothing is left to save."""
    step = trial.last_step
    if step is None or step < FIRST_STEP or step >= last_step:
        return False
    if math.isnan(trial.intermediate_values[step]):
        return False  # the run fails by itself, or its metric begins later
    return study.pruner.prune(study, trial)
