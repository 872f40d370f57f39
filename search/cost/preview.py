"""Trials of a study before it runs, as far as they are known, and the base tasks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.hparams import digest
from search.cells.samplers import planned
from search.worker.base_checkpoint import base_key, base_ready
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values

KEYED = 1000  # trials of a cell whose base tasks are looked at one by one


class _Dice:
    """Random values in place of a sampler; each cell draws other ones."""

    def __init__(self, seed: int, cell: str) -> None:
        self._rng = np.random.default_rng(int(digest([seed, cell], 8), 16))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))
        return float(self._rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return min(high, max(low, round(self.suggest_float(name, low, high, log=log))))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(self._rng.integers(len(choices)))]


def likely_trials(study: ResolvedStudy, cell: Cell, count: int) -> list[Values]:
    """Return the first trials of a cell: the planned ones, then random ones in place of the sampler."""
    dice = _Dice(study.study.search.seed, cell.name)
    out = []
    for number in range(count):
        plan = planned(study.study.search, cell, number, study.turns(cell))
        out.append(cell.space.sample_with(dice) if plan is None else plan)
    return out


def base_tasks(study: ResolvedStudy, cell: Cell, checkpoints: Path, known: set[str]) -> int:
    """Count the base tasks that the cell has to train, and add them to `known`.

    Those in `known` already, and those in the store `checkpoints`, are not counted.
    """
    looked = min(cell.budget, KEYED)
    new, later = 0, 0
    seen: set[str] = set()
    for number, values in enumerate(likely_trials(study, cell, looked)):
        keys: set[str] = set()
        for order, seed in study.runs(cell, number):
            configuration = study.configuration(cell, values, order, seed)
            key = base_key(configuration, study.data)
            if key in seen:
                break  # if the first run shares its base task, so do the others of this trial
            keys.add(key)
            if key not in known and not base_ready(configuration, study.data, checkpoints):
                known.add(key)
                new += 1
                later += number >= looked // 2
        seen |= keys
    for values in likely_trials(study, cell, min(cell.budget, cell.confirm.top + 1) if cell.confirm else 0):
        for order in study.confirmation_orders(cell):
            configuration = study.configuration(cell, values, order, 0)
            key = base_key(configuration, study.data)
            if key not in known and not base_ready(configuration, study.data, checkpoints):
                known.add(key)
                new += 1
    if cell.budget > looked and later:  # they keep coming
        new += round((cell.budget - looked) * later / (looked - looked // 2))
    return new
