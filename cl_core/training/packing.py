"""Packing: the number of runs that train together on one GPU, found by short trainings."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from cl_core.images.dataset import Data
from cl_core.training.configuration import Configuration
from cl_core.training.device import gpu_is_full
from cl_core.training.trainer import Training

COUNTS = (1, 2, 4, 8, 16)
LEAST_GAIN = 1.1  # of images a second, for twice as many runs
MOST_MEMORY = 0.85


class Measured(NamedTuple):
    """A measurement of some runs that train together."""

    images: int
    seconds: float
    memory: float  # the part of the GPU's memory that is in use, in [0, 1]

    @property
    def rate(self) -> float:
        """Images a second of all runs."""
        return self.images / self.seconds


Measure = Callable[[int], Measured]
"""Train so many runs together for a short time."""


class Packing(NamedTuple):
    """The number of runs on one GPU, and what was measured for each number that was tried."""

    runs: int
    tried: dict[int, Measured]


def find_packing(measure: Measure, most: int) -> Packing:
    """Double the number of runs, up to `most`, while the rate grows by a tenth.

    No number is tried that would fill more than 85 % of the memory if each run needed as much as the first.
    """
    best, tried = 1, {1: measure(1)}
    for count in COUNTS[1:]:
        if count > most or count / best * tried[best].memory > MOST_MEMORY:
            break
        try:
            tried[count] = measure(count)
        except Exception as error:
            if gpu_is_full(error):
                break
            raise
        if tried[count].memory > MOST_MEMORY or tried[count].rate < LEAST_GAIN * tried[best].rate:
            break
        best = count
    return Packing(best, tried)


def memory_in_use(device: torch.device) -> float:
    """Return the part of a GPU's memory that is in use by all processes; 0 for a CPU."""
    if device.type != "cuda":
        return 0.0
    free, whole = torch.cuda.mem_get_info(device)
    return 1 - free / whole


def free_memory() -> None:
    """Give the GPU memory of runs that have ended back to other processes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trained_together(
    configuration: Configuration,
    data: Data,
    epochs: int,
    runs: int,
    memory: Callable[[torch.device], float] = memory_in_use,
) -> Measured:
    """Train equal runs in threads of this process: their second task is measured, or a single one.

    Only the epochs differ from those of the configuration, without chf and adaptive. Raises RunError.
    """
    free_memory()  # of the runs before
    recipe: dict[str, Any] = dict(configuration.recipe)
    single = len(configuration.scenario.sizes(data.num_classes)) == 1 or configuration.until == 1
    for part, count in (("base", epochs if single else 1), ("increment", epochs)):
        recipe[part] = {**(recipe.get(part) or {}), "epochs": count}
    short = dataclasses.replace(configuration, recipe=recipe, chf=None, adaptive=None)
    trainings = [Training(short, data, measure=False) for _ in range(runs)]
    with ThreadPoolExecutor(runs) as pool:
        if not single:
            list(pool.map(Training.next_task, trainings))
        began = time.perf_counter()
        results = list(pool.map(Training.next_task, trainings))
        seconds = time.perf_counter() - began
    return Measured(sum(result.images for result in results), seconds, memory(trainings[0].device))
