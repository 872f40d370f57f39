"""Confirmation: the best trials of a cell and the published default, trained on fresh class orders.

It begins when the trials of the cell have ended. The tables alone hold its state: a run that has its row
there is not trained again. So a search that is continued with more trials trains only what its new best
trials lack.
"""

from __future__ import annotations

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


def confirmation_runs(cell: CellStudy) -> list[RunSpec]:
    """Return the runs that confirm the selection of a cell, one class order after another.

    So a search that is cut short can compare what has ended.
    """
    runs = [cell.study.confirmation_specs(cell.cell, number, values) for number, values in candidates(cell)]
    return [spec for order in zip(*runs, strict=True) for spec in order]
