"""Confirmation: the best trials of a cell and the published default, trained on fresh class orders.

It begins when the trials of the cell have ended. The tables alone hold its state: a run that has its row
there is not trained again. So a search that is continued with more trials trains only what its new best
trials lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_core.records import OWN_DEFAULT
from search.cells.cell_progress import TrialStatus, best_trials
from search.cells.cell_study import CellStudy
from spaces.resolved.run_spec import RunSpec, trial_digest
from spaces.space.space import Values


def candidates(cell: CellStudy) -> list[tuple[int, Values]]:
    """Return number and values of the trials to confirm: the default, then the best trials, best first.

    The default is trial 0 if the search starts from it, else a trial of its own.
    """
    study, confirm = cell.study, cell.cell.confirm
    if confirm is None:
        return []
    paper = "paper" in study.study.search.start_from and 0 in cell.trials
    default = cell.trials[0].values if paper else cell.cell.space.defaults()
    out = [(0 if paper else OWN_DEFAULT, default)]
    known = [TrialStatus.of(trial) for trial in cell.trials.values()]
    direction = study.directions(cell.cell)[study.objective]
    best = best_trials(known, direction, confirm.top, trial_digest(default))
    return out + [(number, cell.trials[number].values) for number in best]


class ConfirmationRuns:
    """The runs that confirm the selection of one cell: those to start, open and ended ones.

    `rows` are the rows of the table `runs` when the command began. With `retry_failed`, failed runs are
    handed out again.
    """

    def __init__(
        self, cell: CellStudy, rows: Mapping[str, Mapping[str, Any]], retry_failed: bool = False
    ) -> None:
        runs = [
            cell.study.confirmation_specs(cell.cell, number, values) for number, values in candidates(cell)
        ]
        # One class order after another, so that a search that is cut short can compare what has ended.
        self._specs = {spec.run: spec for order in zip(*runs, strict=True) for spec in order}
        self._open: set[str] = set()
        self._ended: dict[str, str] = {}
        for run, spec in self._specs.items():
            row = rows.get(run)
            if row is None or row["trial_digest"] != spec.trial_digest:
                continue
            if row["status"] != "failed" or not retry_failed:
                self._ended[run] = str(row["status"])

    @property
    def runs(self) -> int:
        """The number of its runs."""
        return len(self._specs)

    @property
    def ended(self) -> int:
        """The number of its runs that have ended."""
        return len(self._ended)

    @property
    def pending(self) -> list[RunSpec]:
        """The runs that have still to start."""
        return [s for run, s in self._specs.items() if run not in self._ended and run not in self._open]

    @property
    def unfinished(self) -> bool:
        """Tell whether one of its runs is running or has still to start."""
        return len(self._ended) < len(self._specs)

    def begin(self, run: str) -> None:
        """Hand out a run."""
        self._open.add(run)

    def end(self, run: str, status: str) -> bool:
        """End a run; return False if it is not one that runs here."""
        if run not in self._open:
            return False
        self._open.remove(run)
        self._ended[run] = status
        return True

    def hand_back(self, run: str) -> None:
        """Pause a run; the next command continues it."""
        self._open.discard(run)
