"""Progress of the cells: their trials counted, in the driver or from the run folder."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lake.run_folder import STUDY
from analysis.lake.run_rows import run_rows
from analysis.lake.study import CellRecord, read_study
from cl_core.errors import BadRequest
from cl_core.records import CONFIRM, OWN_DEFAULT, REUSED, trained_by
from search.cells.stored_trial import NUMBER, PICKED, SOURCE, STATUS, VALUES
from search.jobs.progress import CellProgress
from search.jobs.steering import read_steering
from search.storage.journal import DamagedStudies
from search.storage.studies import read_studies
from spaces.resolved.run_spec import trial_digest
from spaces.study.storage import StoragePart

if TYPE_CHECKING:
    from search.cells.trials import Trial


@dataclass(frozen=True)
class TrialStatus:
    """The state of a trial, as progress counts it."""

    number: int
    digest: str  # of its values
    status: str
    objective: float | None
    unfinished: bool
    failed: bool

    @classmethod
    def of(cls, trial: Trial) -> TrialStatus:
        """Return the state of a trial in the driver."""
        objective = trial.objectives[0] if trial.objectives else None
        digest = trial.specs[0].trial_digest
        return cls(trial.number, digest, trial.status, objective, trial.unfinished, trial.failed)


def best_trials(trials: Sequence[TrialStatus], direction: str, top: int, default: str) -> list[int]:
    """Return the numbers of the trials to confirm beside the default, the best first, `top` at most.

    They are the best by `objective`, equal ones by number. Trials with the same values count once,
    and so do those that share one training, but for the default's.
    Those with the values of the default, whose digest is `default`, do not count.
    """
    sign = 1 if direction == "max" else -1
    known = [
        (-sign * trial.objective, trial.number, trial.digest)
        for trial in trials
        if trial.status == "completed" and not trial.failed and trial.objective is not None
    ]
    chosen: dict[str, int] = {}
    trained: set[int] = set()
    for _, number, digest in sorted(known):
        if digest != default and digest not in chosen and trained_by(number) not in trained:
            chosen[digest] = number
            trained.add(trained_by(number))
    return list(chosen.values())[:top]


def pick(trials: Sequence[TrialStatus], top: int, best: Sequence[int]) -> dict[str, Any]:
    """Return as Optuna's storage holds it which trials of a cell are picked to be confirmed."""
    return {"completed": _completed(trials), "top": top, "trials": list(best)}


def picked(stored: Mapping[str, Any] | None, trials: Sequence[TrialStatus], top: int) -> list[int] | None:
    """Return the trials picked to be confirmed; None unless they were picked from these trials."""
    if not stored or (stored["completed"], stored["top"]) != (_completed(trials), top):
        return None
    return list(stored["trials"])


def _completed(trials: Sequence[TrialStatus]) -> int:
    return sum(trial.status == "completed" and not trial.failed for trial in trials)


def cell_progress(
    cell: str,
    budget: int,
    reused: int,
    trials: Sequence[TrialStatus],
    direction: str,
    paused: bool,
    seeks: str = "",
    to_confirm: int = 0,
    confirmed: int = 0,
) -> CellProgress:
    """Count the trials of a cell. `direction` is that of the first objective in the cell's search.

    `budget` counts the proposed ones; `reused` more share the training of each that does not fail first.
    """
    values = [t.objective for t in trials if t.status == "completed" and t.objective is not None]
    return CellProgress(
        cell=cell,
        budget=budget + reused * (budget - _alone(trials)),
        started=len(trials),
        running=sum(trial.unfinished for trial in trials),
        completed=_completed(trials),
        stopped=sum(trial.status == "stopped" for trial in trials),
        failed=sum(trial.failed for trial in trials),
        best=(max if direction == "max" else min)(values, default=None),
        paused=paused,
        seeks=seeks,
        to_confirm=to_confirm,
        confirmed=confirmed,
    )


def _alone(trials: Sequence[TrialStatus]) -> int:
    """Count the trials that failed before any other shared their training."""
    numbers = {trial.number for trial in trials}
    return sum(t.failed and t.number < REUSED and t.number + REUSED not in numbers for t in trials)


def read_progress(folder: Path, rows: Mapping[str, Mapping[str, Any]] | None = None) -> list[CellProgress]:
    """Read the progress of every cell from study.yaml and Optuna's storage; change nothing, take no lock.

    `rows` are those of the table `runs`, where they have been read.
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
    states, picks = _read_states(folder, {cell.name for cell in found.cells})
    rows = run_rows(folder, lambda damaged: None) if rows is None else rows
    ended, failed = _confirmed(rows), _failed(rows)
    out = []
    for cell in found.cells:
        trials = [_with_rows(trial, failed.get(cell.name, {})) for trial in states.get(cell.name, ())]
        direction = cell.direction or found.direction
        counts = 0, 0
        if cell.confirm is not None:
            number = 0 if study.starts_from_paper and trials else OWN_DEFAULT
            stored = picks.get(cell.name)
            counts = _confirmation(cell, trials, stored, direction, number, ended.get(cell.name, []))
        out.append(
            cell_progress(
                cell.name,
                cell.budget or 0,
                cell.reused,
                trials,
                direction,
                cell.name in paused,
                cell.seeks,
                *counts,
            )
        )
    return out


def _confirmation(
    cell: CellRecord,
    trials: Sequence[TrialStatus],
    stored: Mapping[str, Any] | None,
    direction: str,
    default: int,
    ended: Sequence[Mapping[str, Any]],
) -> tuple[int, int]:
    """Return how many runs confirm a cell, at most until its trials have ended, and how many have ended.

    `stored` holds the trials that were picked; older folders lack them, and confirmed the best seen.
    `default` is the number of the published default, `ended` has the rows of runs that confirmed a trial.
    """
    top, orders = cell.confirm or (0, 0)
    whole = (cell.budget or 0) * (1 + cell.reused)
    if len(trials) < whole - cell.reused * _alone(trials) or any(trial.unfinished for trial in trials):
        return (top + 1) * orders, 0
    digests = {trial.number: trial.digest for trial in trials}
    digests |= {row["trial"]: row["trial_digest"] for row in ended}  # of a default that is no trial, too
    best = picked(stored, trials, top)
    if best is None:
        best = best_trials(trials, direction, top, digests.get(default, ""))
    wanted = {default, *best}
    done = Counter(row["trial"] for row in ended if row["trial"] in wanted)
    # The folder may have been confirmed on more class orders before.
    return len(wanted) * orders, sum(min(count, orders) for count in done.values())


def _confirmed(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of the runs that confirmed a trial, by cell."""
    out: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows.values():
        if row["purpose"] == CONFIRM:
            out.setdefault(row["cell"], []).append(row)
    return out


def _failed(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Return the trials of which a run of the search failed, with the digests of their values, by cell."""
    out: dict[str, dict[int, str]] = {}
    for row in rows.values():
        if row["purpose"] == "search" and row["status"] == "failed":
            out.setdefault(row["cell"], {})[row["trial"]] = row["trial_digest"]
    return out


def _with_rows(trial: TrialStatus, failed: Mapping[int, str]) -> TrialStatus:
    """Return a trial as failed if it had completed, and a run that was added to it later failed."""
    later = trial.status == "completed" and failed.get(trial.number) == trial.digest
    return replace(trial, failed=True) if later else trial


def _read_states(
    folder: Path, cells: Collection[str]
) -> tuple[dict[str, list[TrialStatus]], dict[str, dict[str, Any]]]:
    """Read the state of every trial, and the trials picked to be confirmed, by cell.

    What their stopping studies hold are no trials.
    """
    out: dict[str, list[TrialStatus]] = {}
    picks: dict[str, dict[str, Any]] = {}
    with read_studies(folder) as studies:
        if studies is None:
            return out, picks
        for cell, study_id in studies.ids().items():
            if cell not in cells:
                continue
            trials: dict[int, TrialStatus] = {}
            for stored in studies.storage.get_all_trials(study_id, deepcopy=False):
                if NUMBER in stored.user_attrs:
                    status = STATUS.get(stored.state, "running")
                    value = stored.values[0] if status == "completed" else None
                    number = int(stored.user_attrs[NUMBER])
                    digest = trial_digest(stored.user_attrs[VALUES])
                    trials[number] = TrialStatus(
                        number, digest, status, value, status == "running", status == "failed"
                    )
            out[cell] = list(trials.values())
            if found := studies.storage.get_study_user_attrs(study_id).get(PICKED):
                picks[cell] = found
    return out, picks


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
