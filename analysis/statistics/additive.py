"""A model that adds the levels of several factors, for trials in which all factors vary at once.

The value of a trial is a mean plus a step for its level of each factor. Least squares estimate the steps, so
the worth of one factor is read at the same values of the others. An interval is the wider of Student's t by
the spread around the model and the normal law by the error of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.intervals import ALPHA, Mean

_Array = NDArray[np.float64]
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Additive:
    """The fitted model of n trials; `columns` [p] are (factor, level), `design` [n, p] ones and zeros."""

    columns: tuple[tuple[str, str], ...]
    design: _Array
    inverse: _Array  # [p, n], the pseudo-inverse of the design
    values: _Array  # [n]
    variances: _Array  # [n], of the counts
    freedom: int  # trials beyond the free means and steps

    @classmethod
    def fit(
        cls, factors: Mapping[str, Sequence[str]], values: Sequence[float], variances: Sequence[float]
    ) -> Additive:
        """Fit the levels of each factor, one a trial, to the values of the trials."""
        columns = tuple((name, level) for name, levels in factors.items() for level in dict.fromkeys(levels))
        design = np.array(
            [[float(factors[name][i] == level) for name, level in columns] for i in range(len(values))]
        ).reshape(len(values), len(columns))
        freedom = len(values) - int(np.linalg.matrix_rank(design)) if design.size else 0
        known = (np.asarray(values, dtype=float), np.asarray(variances, dtype=float))
        return cls(columns, design, np.linalg.pinv(design), *known, freedom)

    def level(self, factor: str, level: str) -> Mean | None:
        """Return the mean value at a level, the other factors being as they are over all trials."""
        if (factor, level) not in self.columns:
            return None
        at = self.design.mean(axis=0)
        for i, (name, other) in enumerate(self.columns):
            if name == factor:
                at[i] = float(other == level)
        return self._estimate(at)

    def contrast(self, factor: str, weights: Mapping[str, float]) -> Mean | None:
        """Return a weighted sum of a factor's steps; None where the trials do not determine it."""
        if any((factor, level) not in self.columns for level in weights):
            return None
        at = np.array([weights.get(level, 0.0) if name == factor else 0.0 for name, level in self.columns])
        return self._estimate(at)

    def _estimate(self, at: _Array) -> Mean | None:
        """Return the sum of columns `at` [p] with its interval; None where the trials do not determine it."""
        if np.abs(at - at @ self.inverse @ self.design).max() > TOLERANCE:
            return None
        weights = at @ self.inverse  # [n], of each trial's value
        value = float(weights @ self.values)
        if self.freedom < 1:
            return Mean(value, None, len(self.values))
        rest = self.values - self.design @ (self.inverse @ self.values)
        spread = float(np.sqrt(rest @ rest / self.freedom * (weights @ weights)))
        counts = float(np.sqrt(weights**2 @ self.variances))
        student, normal = -special.stdtrit(self.freedom, ALPHA / 2), -special.ndtri(ALPHA / 2)
        return Mean(value, float(max(student * spread, normal * counts)), len(self.values))
