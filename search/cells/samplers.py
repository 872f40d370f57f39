"""Samplers, which propose the values of a cell's next trial.

Every trial gets a fresh sampler. Its proposal depends on the seed, the cell, the trial's number and the
results so far, never on when the command was started.
"""

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
    """Return the sampler of one trial, with the arguments of the study."""
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


def planned(search: SearchPart, cell: Cell, number: int, turns: int = 1) -> Values | None:
    """Return the values of a trial that are fixed in advance; None if the sampler proposes them.

    The published defaults come first, once on each of the class orders that trials take in `turns`, then the
    points of a grid. A search for a class order always begins with the natural one.
    """
    first: list[Values] = []
    if "paper" in search.start_from or cell.seeks:
        first = [cell.space.defaults()] * turns
    plan: Iterator[Values] = iter(first)
    if search.sampler == "grid":
        plan = itertools.chain(first, (point for point in cell.space.points() if point not in first))
    return next(itertools.islice(plan, number, None), None)
