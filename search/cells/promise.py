"""Promise of the trials of a cell: their posterior means, by which those to be confirmed are picked.

The best trial seen has had the most luck. The posterior takes luck back by what near trials and the noise say
(`analysis.selection.posterior`). On recorded class orders a confirmation of the trials with the best means
gains more than one of the best seen (search/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.lake.searched_space import parameter
from analysis.selection.points import points
from analysis.selection.posterior import posterior
from cl_core.records import trained_by
from search.cells.trials import Trial
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import trial_digest
from spaces.space.plain import plain_parameters

MOST_TRIALS = 400
"""Trials that the posterior uses: of more, the best half of these and every k-th of the others."""


def promises(cell: Cell, trials: Sequence[Trial], direction: str, turns: int) -> dict[int, float]:
    """Return the posterior mean of the first objective of completed trials, by number; higher is better.

    Trials take `turns` class orders in turn. The means are differences from one of the trials.
    """
    sign = 1.0 if direction == "max" else -1.0
    values = {t.number: sign * t.objectives[0] for t in trials if t.objectives}
    used = _used([trial for trial in trials if trial.objectives], values)
    if len(used) < 2:
        return values
    digests = [trial_digest(trial.values) for trial in used]
    places = {digest: at for at, digest in enumerate(dict.fromkeys(digests))}
    of = dict(zip(digests, used, strict=True))
    plain = plain_parameters(cell.method, cell.space)
    columns = {str(one["name"]): str(one["column"]) for one in plain}
    rows = [
        {columns[name]: value for name, value in of[digest].values.items() if name in columns}
        for digest in places
    ]
    trained = np.array([trained_by(trial.number) for trial in used])
    found = posterior(
        np.array([places[digest] for digest in digests]),
        trained % turns,
        np.array([values[trial.number] for trial in used]),
        points=points(tuple(map(parameter, plain)), pd.DataFrame(rows)),
        training=trained,
    )
    return {
        trial.number: float(found.difference[places[digest]])
        for trial, digest in zip(used, digests, strict=True)
    }


def _used(trials: list[Trial], values: dict[int, float]) -> list[Trial]:
    """Return the trials that the posterior uses."""
    if len(trials) <= MOST_TRIALS:
        return trials
    ranked = sorted(trials, key=lambda trial: (-values[trial.number], trial.number))
    best, rest = ranked[: MOST_TRIALS // 2], ranked[MOST_TRIALS // 2 :]
    return best + rest[:: 1 + len(rest) // (MOST_TRIALS // 2)]
