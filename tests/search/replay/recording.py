"""The recorded grid: what every configuration came to, task by task, and the point nearest to one that was
asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from tests.search.replay.record import AXES, HERE

LOG = ("kd_weight", "lr")
BASE_CLASSES = 2  # of every task


@dataclass(frozen=True)
class Recording:
    """N configurations of a full grid over T tasks. `values` [N] of each axis; `accuracy` and `seconds` are
    [N, T], accuracy being that over the classes seen after each task. `entry` is what the study file says of
    the method, by label."""

    entry: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, NDArray[np.float64]]
    accuracy: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def tasks(self) -> int:
        return self.accuracy.shape[1]

    @property
    def objective(self) -> NDArray[np.float64]:
        """[N]: the average incremental accuracy, first task included."""
        return self.accuracy.mean(axis=1)

    @property
    def increments(self) -> NDArray[np.float64]:
        """[N, T]: the accuracy over the increments so far, nan after the first task: what is reported."""
        later = self.accuracy[:, 1:]
        out = np.full_like(self.accuracy, np.nan)
        out[:, 1:] = later.cumsum(axis=1) / np.arange(1, self.tasks)
        return out

    def levels(self, axis: str) -> NDArray[np.float64]:
        """The values of an axis that the grid has, rising."""
        return np.unique(self.values[axis])

    def domain(self, axis: str) -> dict[str, Any]:
        """The axis as a study file writes it: the interval that the grid spans, not the grid's points."""
        levels = self.levels(axis)
        return {"float": [float(levels[0]), float(levels[-1])], "log": axis in LOG}

    def nearest(self, point: Mapping[str, float]) -> int:
        """The row of the recorded configuration nearest to a point of the intervals: on each axis by itself,
        kd_weight and lr by their logarithms."""
        chosen = np.ones(len(self.accuracy), dtype=bool)
        for axis, column in self.values.items():
            scale = np.log if axis in LOG else np.asarray
            levels = self.levels(axis)
            level = levels[np.argmin(np.abs(scale(levels) - scale(point[axis])))]
            chosen &= column == level
        (row,) = np.flatnonzero(chosen)
        return int(row)

    def near(self, row: int) -> NDArray[np.bool_]:
        """[N]: the rows within one level of a row on every axis, itself included."""
        out = np.ones(len(self.accuracy), dtype=bool)
        for axis, column in self.values.items():
            place = np.searchsorted(self.levels(axis), column)
            out &= np.abs(place - place[row]) <= 1
        return out

    def first(self, tasks: int) -> Recording:
        """The same runs, ended after so many tasks."""
        return replace(self, accuracy=self.accuracy[:, :tasks], seconds=self.seconds[:, :tasks])

    def remade(self, accuracy: NDArray[np.float64]) -> Recording:
        """The same grid with other accuracies [N, T]."""
        return replace(self, accuracy=accuracy)


@cache
def recorded(name: str = "recorded-icarl") -> Recording:
    """A table of the repository."""
    table = pd.read_csv(HERE / f"{name}.csv", comment="#")
    study = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    tasks = sum(column.startswith("accuracy_") for column in table)
    return Recording(
        study["methods"],
        {axis: table[axis].to_numpy() for axis in AXES},
        *(table[[f"{what}_{t}" for t in range(tasks)]].to_numpy() for what in ("accuracy", "seconds")),
    )
