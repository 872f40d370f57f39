"""Who proposes a cell's next configuration. A fresh sampler an ask: what it proposes depends on the seed, the
cell, the number and what the cell was told, never on when the program was started."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from cl_core.hparams import digest
from spaces.resolved.cell import Cell
from spaces.space.space import Values
from spaces.study.search import SearchPart


def sampler(search: SearchPart, cell: Cell, number: int) -> BaseSampler:
    """The sampler of one ask, with every argument that the study states."""
    seed = int(digest([search.seed, cell.name, number], 8), 16)
    args = search.sampler_args
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match search.sampler:
            case "tpe":
                return TPESampler(seed=seed, **args)
            case "gp":
                return GPSampler(seed=seed, **args)
            case "nsga2":
                return NSGAIISampler(seed=seed, **args)
    return RandomSampler(seed=seed)


def planned(search: SearchPart, cell: Cell, number: int) -> Values | None:
    """The configuration that comes `number`-th by plan: the published defaults first, then the grid's
    points; None where the sampler is asked. A search for a class order always begins with the natural one."""
    first: list[Values] = []
    if "paper" in search.start_from or cell.seeks:
        first = [cell.space.defaults()]
    plan: Iterator[Values] = iter(first)
    if search.sampler == "grid":
        plan = itertools.chain(first, (point for point in cell.space.points() if point not in first))
    return next(itertools.islice(plan, number, None), None)
