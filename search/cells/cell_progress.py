"""Progress of the cells: their trials counted, in the driver or from the run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.lake.run_folder import STUDY
from analysis.lake.study import read_study
from cl_core.errors import BadRequest
from search.cells.stored_trial import NUMBER, SOURCE, STATUS
from search.jobs.progress import CellProgress
from search.jobs.steering import read_steering
from search.storage.journal import DamagedStudies
from search.storage.studies import read_studies
from spaces.study.storage import StoragePart

if TYPE_CHECKING:
    from search.cells.trials import Trial


@dataclass(frozen=True)
class TrialStatus:
    """The state of a trial, as progress counts it."""

    status: str
    objective: float | None
    unfinished: bool
    failed: bool

    @classmethod
    def of(cls, trial: Trial) -> TrialStatus:
        """Return the state of a trial in the driver."""
        objective = trial.objectives[0] if trial.objectives else None
        return cls(trial.status, objective, trial.unfinished, trial.failed)


def cell_progress(
    cell: str, budget: int, trials: Sequence[TrialStatus], direction: str, paused: bool, seeks: str = ""
) -> CellProgress:
    """Count the trials of a cell. `direction` is that of the first objective in the cell's search."""
    values = [t.objective for t in trials if t.status == "completed" and t.objective is not None]
    return CellProgress(
        cell=cell,
        budget=budget,
        started=len(trials),
        running=sum(trial.unfinished for trial in trials),
        completed=sum(trial.status == "completed" and not trial.failed for trial in trials),
        stopped=sum(trial.status == "stopped" for trial in trials),
        failed=sum(trial.failed for trial in trials),
        best=(max if direction == "max" else min)(values, default=None),
        paused=paused,
        seeks=seeks,
    )


def read_progress(folder: Path) -> list[CellProgress]:
    """Read the progress of every cell from study.yaml and Optuna's storage; change nothing, take no lock.

    Raises BadRequest if the folder is not a run folder.
    """
    study = read_study(folder)
    if study is None or "resolved" not in study.plain:
        raise BadRequest(
            f"{folder} is not a run folder (it has no study.yaml): give the folder that `cl-search run` named"
        )
    found = study.resolved
    if found.direction is None or not found.cells or any(cell.budget is None for cell in found.cells):
        raise BadRequest(
            f"{folder / STUDY} is damaged under 'resolved': run the study again, which writes it anew"
        )
    paused = read_steering(folder).paused
    states = _read_states(folder)
    return [
        cell_progress(
            cell.name,
            cell.budget or 0,
            states.get(cell.name, []),
            cell.direction or found.direction,
            cell.name in paused,
            cell.seeks,
        )
        for cell in found.cells
    ]


def _read_states(folder: Path) -> dict[str, list[TrialStatus]]:
    """Read the state of every trial, by cell."""
    out: dict[str, list[TrialStatus]] = {}
    with read_studies(folder) as studies:
        if studies is None:
            return out
        for cell, study_id in studies.ids().items():
            trials: dict[int, TrialStatus] = {}
            for stored in studies.storage.get_all_trials(study_id, deepcopy=False):
                if NUMBER in stored.user_attrs:
                    status = STATUS.get(stored.state, "running")
                    value = stored.values[0] if status == "completed" else None
                    trials[stored.user_attrs[NUMBER]] = TrialStatus(
                        status, value, status == "running", status == "failed"
                    )
            out[cell] = list(trials.values())
    return out


def read_learnt(folder: Path, part: StoragePart, cells: Iterable[str]) -> dict[str, set[str]]:
    """Read from which other run folders each cell has learnt, named as in `search.start_from`.

    Raises BadRequest if the studies cannot be read. Damaged ones are made again, and have learnt nothing.
    """
    out: dict[str, set[str]] = {cell: set() for cell in cells}
    with contextlib.suppress(DamagedStudies), read_studies(folder, part) as studies:
        if studies is None:
            return out
        for cell, study_id in studies.ids().items():
            if cell in out:
                out[cell] = set(studies.storage.get_study_user_attrs(study_id).get(SOURCE, []))
    return out
