"""What a study is going to ask, as far as that is known before: configurations, the first tasks that they
share, and whether its sampler gets to learn anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.hparams import digest
from search.cells.samplers import planned
from search.worker.runner import base_key, base_ready
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values

KEYED = 1000  # configurations of a cell whose first tasks are looked at one by one


class _Dice:
    """Draws at random what a sampler would be asked for; in each cell other values, as samplers do."""

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


def configurations(study: ResolvedStudy, cell: Cell, count: int) -> list[Values]:
    """The first configurations of a cell: those that are planned, then random ones in the sampler's place."""
    dice = _Dice(study.study.search.seed, cell.name)
    out = []
    for number in range(count):
        plan = planned(study.study.search, cell, number)
        out.append(cell.space.sample_with(dice) if plan is None else plan)
    return out


def first_tasks(study: ResolvedStudy, cell: Cell, checkpoints: Path, known: set[str]) -> int:
    """How many first tasks the cell has to train that are neither in `known`, to which they are added, nor in
    the store `checkpoints`.
    """
    looked = min(cell.budget, KEYED)
    new, later = 0, 0
    seen: set[str] = set()
    for number, config in enumerate(configurations(study, cell, looked)):
        keys: set[str] = set()
        for order, seed in study.runs(cell):
            configuration = study.configuration(cell, config, order, seed)
            key = base_key(configuration, study.data)
            if key in seen:
                break  # as the first, so the others of this configuration
            keys.add(key)
            if key not in known and not base_ready(configuration, study.data, checkpoints):
                known.add(key)
                new += 1
                later += number >= looked // 2
        seen |= keys
    if cell.budget > looked and later:  # they keep coming
        new += round((cell.budget - looked) * later / (looked - looked // 2))
    return new
