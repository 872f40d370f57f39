"""The confirmed selection of a cell: candidates, their difference from the default, and the choice.

Candidates are the trials that ran on fresh class orders. Their posterior rests on all runs of the cell:
those of the search, which picked them, and those that confirm them. The published default is kept unless a
candidate is better with at least the probability `protocol.keep_default`. Of those, the one with the greatest
posterior mean is selected. Where no confirming run of the default has completed, nothing can be compared with
it, and it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.lake.searched_space import spaces
from analysis.selection.points import points
from analysis.selection.posterior import Floats, Index, posterior
from analysis.selection.right_answers import RightAnswers
from analysis.selection.row_covariance import row_covariance
from analysis.statistics.sample import recorded
from cl_core.metrics import METRICS
from cl_core.records import CONFIRM, OWN_DEFAULT, REUSED, trained_by

MOST_RUNS = 600
"""Runs of a search that the posterior uses beside the confirming ones: every k-th where there are more."""


@dataclass(frozen=True)
class Candidate:
    """A confirmed trial. Differences are trial minus default, in the unit of the objective."""

    trial: int
    digest: str  # of its values
    orders: int  # fresh class orders that it has completed
    value: float  # mean objective over them; NaN where there are none
    difference: float  # posterior mean
    low: float  # of the 95 % interval
    high: float
    p_better: float


@dataclass(frozen=True)
class Confirmation:
    """The confirmed selection of a cell."""

    candidates: tuple[Candidate, ...]  # without the default, the most promising first
    default: Candidate
    selected: Candidate
    keep_default: float
    orders: int  # fresh class orders, over all candidates
    rows: int  # that a run was measured on after its last task

    @property
    def kept(self) -> bool:
        """Tell whether the published default is selected."""
        return self.selected is self.default

    @property
    def compared(self) -> bool:
        """Tell whether a confirming run of the default has completed, so that differences are known."""
        return self.default.orders > 0


@dataclass(frozen=True)
class Evidence:
    """Runs that the confirmed selection of a cell rests on."""

    runs: pd.DataFrame  # of the posterior: of its search, then `confirmed`
    confirmed: pd.DataFrame
    published: tuple[str, ...]  # digests of the default
    number: int  # of the default

    @property
    def names(self) -> list[str]:
        """The names of the runs."""
        return list(self.runs["run"].astype(str))


def evidence(results: Results, search: pd.DataFrame, ended: pd.DataFrame) -> Evidence | None:
    """Return the runs of a cell's confirmed selection; None where nothing but the default is confirmed yet.

    `search` holds the completed runs of its search, `ended` all of its rows.
    """
    done = ended[(ended["status"] == "completed") & ended["objective"].notna()]
    confirmed = done[done["purpose"] == CONFIRM]
    number = 0 if results.study.starts_from_paper else OWN_DEFAULT
    published = tuple(str(digest) for digest in ended["trial_digest"][ended["trial"] == number].unique())
    others = confirmed[~confirmed["trial_digest"].isin(published)]
    if others.empty:
        return None
    own = search["trial_digest"].isin([*published, *others["trial_digest"]])
    beside = search[~own]
    runs = pd.concat([search[own], beside[:: 1 + len(beside) // MOST_RUNS], confirmed])
    return Evidence(runs, confirmed, published, number)


def confirmation(results: Results, of: Evidence, answers: RightAnswers | None = None) -> Confirmation:
    """Return the confirmed selection of a cell; `answers` as in `row_error`."""
    runs, confirmed, published, number = of.runs, of.confirmed, of.published, of.number
    # The default first: differences are from it, or from any other trial where it has no run at all.
    digests = sorted(dict.fromkeys(runs["trial_digest"]), key=lambda digest: digest not in published)
    _, direction = results.study.objective
    sign = 1.0 if direction == "max" else -1.0
    number_of = {digest: at for at, digest in enumerate(digests)}
    index = np.array([number_of[digest] for digest in runs["trial_digest"]])
    known = posterior(
        index,
        np.unique(runs["class_order"].astype(str), return_inverse=True)[1],
        sign * runs["objective"].to_numpy(dtype=float),
        row_error(results, runs, answers),
        _points(results, runs, index, len(digests)),
        default=0,
        training=_trainings(runs),
        asked=np.array([number_of[digest] for digest in confirmed["trial_digest"].unique()]),
    )
    found = []
    for at, (digest, mine) in enumerate(confirmed.groupby("trial_digest", sort=False)):
        low, high = sorted((sign * float(known.low[at]), sign * float(known.high[at])))
        found.append(
            Candidate(
                int(mine["trial"].iloc[0]),
                str(digest),
                int(mine["class_order"].nunique()),
                float(mine["objective"].mean()),
                sign * float(known.difference[at]),
                low,
                high,
                float(known.p_better[at]),
            )
        )
    digest = published[-1] if published else ""
    untried = Candidate(number, digest, 0, math.nan, math.nan, math.nan, math.nan, math.nan)
    default = next((one for one in found if one.digest in published), untried)
    rest = sorted((one for one in found if one is not default), key=lambda one: -sign * one.difference)
    orders = int(confirmed["class_order"].nunique())
    keep = results.study.protocol.keep_default
    selected = _selected(rest, default, keep)
    return Confirmation(tuple(rest), default, selected, keep, orders, _rows(results, confirmed))


def _selected(ranked: Sequence[Candidate], default: Candidate, keep: float) -> Candidate:
    """Return the best candidate that is better than the default with probability `keep`, else the default."""
    if not default.orders:
        return default
    return next((one for one in ranked if one.p_better >= keep), default)


def _trainings(runs: pd.DataFrame) -> Index | None:
    """Return [n], equal for runs that share a training; None where no trial is reused."""
    if (runs["trial"] < REUSED).all():
        return None
    keys = pd.MultiIndex.from_arrays(
        [runs["trial"].map(trained_by), runs["class_order"].astype(str), runs["seed"]]
    )
    return np.asarray(pd.factorize(keys)[0], dtype=np.int64)


def _points(results: Results, runs: pd.DataFrame, trial: Index, count: int) -> Floats | None:
    """Return every trial as a point of the unit cube, [T, D]; None where study.yaml lacks the space."""
    space = (spaces(results) or {}).get(str(runs["cell"].iloc[0]))
    first = {int(at): row for row, at in reversed(list(enumerate(trial)))}
    if space is None or len(first) < count:
        return None
    return points(space, runs.iloc[[first[at] for at in range(count)]])


def row_error(results: Results, runs: pd.DataFrame, answers: RightAnswers | None = None) -> Floats | None:
    """Return [n, n], the covariance of what finitely many rows leave in the values of n runs.

    `answers` reads the right answers of several cells together; without it, those of `runs` are read alone.
    Where right answers are not known row by row, runs err independently by what their counts say. None for a
    cost, and where the counts are gone.
    """
    name, split = results.study.objective[0], results.study.protocol.split
    found = row_covariance(answers or RightAnswers(results, split), list(runs["run"].astype(str)), name)
    if found is not None or name not in METRICS:
        return found
    errors = [one.error for _, one in recorded(results, runs, "objective", name)]
    if any(error is None for error in errors):
        return None
    return np.diag(np.square(np.array(errors, dtype=float)))


def _rows(results: Results, confirmed: pd.DataFrame) -> int:
    """Return the rows that a run was measured on after its last task; 0 where the counts are gone."""
    for run, split in zip(confirmed["run"], confirmed["split"], strict=True):
        if counts := results.confusions(run, split):
            return int(counts[-1].sum())
    return 0
