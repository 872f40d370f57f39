"""Trials as points of the unit cube: what the posterior calls near to one another."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.lake.searched_space import Parameter, acting
from analysis.selection.posterior import Floats

MIDDLE = 0.5  # of a parameter that does not act in a trial
CATEGORY = 1 / math.sqrt(2)  # two categories have distance 1


def points(space: tuple[Parameter, ...], rows: pd.DataFrame) -> Floats:
    """Return [T, D] of T rows of the table `runs`, one a trial.

    A number has one coordinate, its place in its range (in logarithms where it is searched in them). A
    category has one coordinate for each option.
    """
    acts = acting(space, rows)
    columns: list[Floats] = []
    for parameter in space:
        if parameter.single or parameter.column not in rows:
            continue
        found = [
            parameter.value(value) if active else None
            for value, active in zip(rows[parameter.column], acts[parameter.name], strict=True)
        ]
        if parameter.ends is None:
            columns += [
                np.array([CATEGORY * (value == option) for value in found]) for option in parameter.options
            ]
        else:
            columns.append(np.array([_place(parameter, value) for value in found]))
    return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))


def _place(parameter: Parameter, value: object) -> float:
    place = parameter.position(float(value)) if isinstance(value, int | float) else None
    return MIDDLE if place is None else place
