"""Trials of a recorded cell that Optuna's TPE proposes, with the arguments that are a study's default.

The nearest recorded trial that has not run stands for a proposal. Trials run one after another in a space
without branches, so `constant_liar` and `group` change nothing and are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.logging import ERROR, set_verbosity
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study, create_study
from optuna.trial import TrialState, create_trial

from spaces.study.strategies import TpeArgs
from tests.search.replay.class_orders import Recorded

ARGS = TpeArgs(constant_liar=False, group=False)


def proposals(cell: Recorded, rng: np.random.Generator, value: Callable[[int, int], float]) -> Iterator[int]:
    """Yield trials, the default first. `value(place, trial)` is what TPE is told of each, and its place."""
    levels = [np.unique(axis, return_inverse=True) for axis in cell.points.T]
    places = np.stack([inverse for _, inverse in levels], axis=1)
    space: dict[str, BaseDistribution] = {
        str(axis): IntDistribution(0, len(values) - 1) for axis, (values, _) in enumerate(levels)
    }
    set_verbosity(ERROR)
    study = create_study(direction="maximize", sampler=RandomSampler())
    others = rng.permutation(np.delete(np.arange(len(places)), cell.default))
    taken = np.zeros(len(places), dtype=bool)
    for place in range(len(places)):
        if place < ARGS.n_startup_trials:
            trial = [cell.default, *others.tolist()][place]
        else:
            wanted = _asked(study, space, int(rng.integers(2**31)))
            far = np.abs(places - wanted).sum(axis=1) + rng.random(len(places)) / 2  # ties at random
            trial = int(np.where(taken, np.inf, far).argmin())
        taken[trial] = True
        params = dict(zip(space, places[trial].tolist(), strict=True))
        study.add_trial(create_trial(params=params, distributions=space, value=value(place, trial)))
        yield trial


def _asked(study: Study, space: dict[str, BaseDistribution], seed: int) -> NDArray[np.int64]:
    """Return the levels [D] that a fresh TPE proposes; the trial that asks ends as failed.

    TPE is given the space: finding it in the trials would take a third of the time.
    """
    number = study.ask().number
    asking = study.get_trials(deepcopy=False)[number]
    levels = TPESampler(seed=seed, **ARGS.model_dump()).sample_relative(study, asking, space)
    study.tell(number, state=TrialState.FAIL)
    return np.array([levels[name] for name in space])
