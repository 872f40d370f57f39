"""Where every cell of a run stands, counted in configurations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.lake.run_folder import STUDY
from analysis.lake.study import read_study
from cl_core.errors import BadRequest
from search.cells.cell_study import NUMBER, SOURCE, STATUS
from search.cells.trials import Point
from search.jobs.progress import CellProgress
from search.jobs.steering import read as read_control
from search.storage.database import while_it_answers
from search.storage.journal import DamagedStudies
from search.storage.run_folder import read_studies
from spaces.study.storage import StoragePart


@dataclass(frozen=True)
class Standing:
    """A configuration as progress counts it."""

    status: str
    value: float | None
    unfinished: bool
    failed: bool

    @classmethod
    def of(cls, point: Point) -> Standing:
        """That of a configuration which the driver holds."""
        return cls(point.status, point.values[0] if point.values else None, point.unfinished, point.failed)


def counted(
    cell: str,
    budget: int,
    points: Sequence[Standing],
    direction: str,
    paused: Iterable[str],
    seeks: str = "",
) -> CellProgress:
    """A cell's progress; `direction` is the first objective's, as the cell's search has it."""
    values = [point.value for point in points if point.status == "completed" and point.value is not None]
    return CellProgress(
        cell=cell,
        budget=budget,
        asked=len(points),
        running=sum(point.unfinished for point in points),
        completed=sum(point.status == "completed" and not point.failed for point in points),
        stopped=sum(point.status == "stopped" for point in points),
        failed=sum(point.failed for point in points),
        best=(max if direction == "max" else min)(values, default=None),
        paused=cell in paused,
        seeks=seeks,
    )


def read_progress(folder: Path) -> list[CellProgress]:
    """Where every cell of a run stands, from study.yaml and Optuna's storage; changes nothing, takes no lock.

    A run that has not begun anything has no progress. Raises BadRequest where there is no run.
    """
    study = read_study(folder)
    if study is None or "resolved" not in study.plain:
        raise BadRequest(f"{folder} holds no run (no study.yaml): give the folder that `cl-search run` named")
    resolved = study.resolved
    if (
        resolved.direction is None
        or not resolved.cells
        or any(cell.budget is None for cell in resolved.cells)
    ):
        raise BadRequest(
            f"{folder / STUDY} is damaged under 'resolved': run the study again, which writes it anew"
        )
    paused = read_control(folder).paused
    standings = _standings(folder)
    return [
        counted(
            cell.name,
            cell.budget or 0,
            standings.get(cell.name, []),
            cell.direction or resolved.direction,
            paused,
            cell.seeks,
        )
        for cell in resolved.cells
    ]


def _standings(folder: Path) -> dict[str, list[Standing]]:
    """Every configuration that was asked, by cell."""
    studies = read_studies(folder)
    if studies is None:
        return {}
    out = {}
    with studies, while_it_answers("of this run"):
        for cell, number in studies.ids().items():
            points: dict[int, Standing] = {}
            for trial in studies.storage.get_all_trials(number, deepcopy=False):
                if NUMBER in trial.user_attrs:
                    status = STATUS.get(trial.state, "running")
                    value = trial.values[0] if status == "completed" else None
                    points[trial.user_attrs[NUMBER]] = Standing(
                        status, value, status == "running", status == "failed"
                    )
            out[cell] = list(points.values())
    return out


def read_learnt(folder: Path, part: StoragePart, cells: Iterable[str]) -> dict[str, set[str]]:
    """The runs that each cell of a run has learnt from, as `search.start_from` names them, by cell.

    Raises BadRequest where the studies cannot be read; damaged ones are made anew, and have learnt nothing.
    """
    out: dict[str, set[str]] = {cell: set() for cell in cells}
    try:
        studies = read_studies(folder, part)
    except DamagedStudies:
        return out
    if studies is None:
        return out
    with studies, while_it_answers("of this run"):
        for cell, number in studies.ids().items():
            if cell in out:
                out[cell] = set(studies.storage.get_study_user_attrs(number).get(SOURCE, []))
    return out
