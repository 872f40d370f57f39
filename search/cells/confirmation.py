"""Confirmation: the most promising trials of a cell and the published default, trained on fresh class orders.

It begins when the trials of the cell have ended. Which trials were picked is in the cell's Optuna study, and
the tables hold the rest: a run that has its row there is not trained again. So a search that is continued
with more trials trains only what its newly picked trials lack.
"""

from __future__ import annotations

from dataclasses import replace

from cl_core.records import OWN_DEFAULT
from search.cells.cell_progress import TrialStatus, best_trials, pick, picked
from search.cells.cell_study import CellStudy
from search.cells.promise import promises
from spaces.resolved.run_spec import RunSpec, trial_digest
from spaces.space.space import Values


def candidates(cell: CellStudy) -> list[tuple[int, Values]]:
    """Return number and values of the trials to confirm: the default, then the most promising, best first.

    The default is trial 0 if the search starts from it, else a trial of its own.
    """
    study, confirm = cell.study, cell.cell.confirm
    if confirm is None:
        return []
    paper = "paper" in study.study.search.start_from and 0 in cell.trials
    default = cell.trials[0].values if paper else cell.cell.space.defaults()
    out = [(0 if paper else OWN_DEFAULT, default)]
    best = _best(cell, confirm.top, trial_digest(default))
    return out + [(number, cell.trials[number].values) for number in best]


def _best(cell: CellStudy, top: int, default: str) -> list[int]:
    """Return the numbers of the most promising trials, picked once for the trials that have ended."""
    known = [TrialStatus.of(trial) for trial in cell.trials.values()]
    stored = picked(cell.picked, known, top)
    if stored is not None:
        return stored
    direction = cell.study.directions(cell.cell)[cell.study.objective]
    means = promises(cell.cell, list(cell.trials.values()), direction, cell.study.turns(cell.cell))
    best = best_trials([replace(t, objective=means.get(t.number)) for t in known], "max", top, default)
    cell.pick(pick(known, top, best))
    return best


def confirmation_runs(cell: CellStudy) -> list[RunSpec]:
    """Return the runs that confirm the selection of a cell, one class order after another.

    So a search that is cut short can compare what has ended.
    """
    runs = [cell.study.confirmation_specs(cell.cell, number, values) for number, values in candidates(cell)]
    return [spec for order in zip(*runs, strict=True) for spec in order]
