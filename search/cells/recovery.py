"""Recovery: the state of a search from Optuna's studies and the tables, after any interruption.

Damaged studies are set aside and made again from the tables. Where the studies are older than the tables (the
last seconds of a journal are lost with a machine), the rows decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import JOURNAL
from analysis.lake.run_rows import run_rows
from cl_core.metrics import summary
from cl_core.records import REUSED
from search.cells.audit import mark
from search.cells.cell_study import CellStudy
from search.cells.trials import Trial, finite
from search.cells.warm_start import sampled_values
from search.lake.rows import INCREMENTS, primary_confusions
from search.lake.writer import read_rows
from search.storage.journal import DamagedStudies
from search.storage.repair import set_aside
from search.storage.studies import Studies, open_studies
from search.worker.job import Answer
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values


def open_cells(study: ResolvedStudy, folder: Path) -> tuple[Studies, dict[str, CellStudy], list[str]]:
    """Open the Optuna studies and read every cell's trials, with a note if a damaged file was set aside."""
    try:
        return *_open(study, folder), []
    except DamagedStudies as error:
        for path in {error.path, folder / JOURNAL}:  # of a journal kept elsewhere, the copy is no better
            if path.exists():
                aside = set_aside(folder, path)
        note = (
            f"{error.path} was damaged ({error.reason}): it is in {aside.parent} now, and is made again from "
            "the tables"
        )
        return *_open(study, folder), [note]


def _open(study: ResolvedStudy, folder: Path) -> tuple[Studies, dict[str, CellStudy]]:
    studies = open_studies(folder, study.study.storage)
    try:
        with studies.checked():
            known = studies.ids()
            cells = {
                cell.name: CellStudy(studies.storage, study, cell, known, studies.prefix)
                for cell in study.cells
            }
    except BaseException:
        studies.close()
        raise
    return studies, cells


class Recovery:
    """The rows of a run folder, from which trials get the ends of their runs."""

    def __init__(self, study: ResolvedStudy, folder: Path, retry_failed: bool = False) -> None:
        self.study, self.folder, self.retry_failed = study, folder, retry_failed
        self.rows = run_rows(folder)

    def resume(self, cell: CellStudy, trial: Trial) -> None:
        """Give a trial that was read back the ends of its runs; begin it again if it has to be retried."""
        if (trial.status == "failed" and self.retry_failed) or self._unexplained(trial):
            cell.retry(trial)
        if trial.status == "stopped":
            last = max(trial.course.values) // cell.cell.tasks
            trial.lost = {i for i, spec in enumerate(trial.specs[: last + 1]) if spec.run not in self.rows}
        self.recall(cell, trial)

    def recreate(self, cell: CellStudy) -> list[str]:
        """Begin the trials again that have rows in the tables and are unknown to the studies.

        They begin in their order, those after an unfinished one in their turn. So a trial that is trained
        again is proposed, and compared, by what the trials before it show, as it was at first. Return a line
        for each trial of which nothing is left.
        """
        first = cell.proposed
        most = max(cell.cell.budget, self.study.study.search.trials)  # a later confirmation lowers the budget
        rows = trials_in_rows(self.study, cell.cell, self.rows.values(), first)
        known = {number: values for number, values in rows.items() if number < most}
        cell.expect(known)
        whole = not any(trial.unfinished for trial in cell.trials.values())
        while whole and cell.proposed in known:
            trial = cell.new_trial()
            self.recall(cell, trial)
            whole = not trial.unfinished
        return [
            f"{cell.cell.name}/{number} is neither in the tables nor in Optuna's studies: its values are "
            "proposed again, and it is trained again"
            for number in range(first, max(known, default=-1))
            if number not in known
        ]

    def recall(self, cell: CellStudy, trial: Trial) -> None:
        """Take the runs of a trial that have ended according to the tables."""
        if trial.status in ("stopped", "failed"):
            return
        begun = cell.retried_since(trial)
        for run, spec in enumerate(trial.specs):
            row = self.rows.get(spec.run)
            if row is None or row["trial_digest"] != spec.trial_digest:
                continue
            status = str(row["status"])
            if status == "failed" and (self.retry_failed or (row["ended"] or 0.0) < begun):
                continue  # the failure that is being retried
            values = [row[name] for name in self.study.objectives]
            continued = any(later.run in self.rows for later in trial.specs[run + 1 :])
            tasks, known = int(row["tasks_done"] or 0), None if continued else row[INCREMENTS]
            self.catch_up(cell, trial, run, tasks, status)
            answer = Answer(spec.run, tasks - 1, cell.cell.tasks, values, status, row["error"], known)
            cell.end_run(trial, run, answer)
            task = cell.audited_task(trial, run)
            if task is not None and row["audited_after"] is None:
                mark(self.folder, spec.run, task, row)

    def _unexplained(self, trial: Trial) -> bool:
        """Tell whether the rows that say why a trial ended are gone."""
        if trial.status == "stopped":
            return not trial.course.values
        if trial.status != "failed":
            return False
        rows = [self.rows[spec.run] for spec in trial.specs if spec.run in self.rows]
        return all(  # a failed run has values too, of the tasks before
            row["status"] != "failed" and finite([row[name] for name in self.study.objectives]) is not None
            for row in rows
        )

    def catch_up(self, cell: CellStudy, trial: Trial, run: int, done: int, ended: str = "") -> None:
        """Report the values of a run's first `done` tasks that the studies do not have, from its rows.

        They were lost with the studies, perhaps before the run ended as `ended`; later trials are compared
        with them.
        """
        first = run * cell.cell.tasks
        missing = [task for task in range(1, done) if first + task not in trial.course.values]
        if trial.status != "running" or not missing:
            return
        known = increments_of(self.folder, trial.specs[run], cell.cell.sizes)
        for task in missing:
            if task >= len(known) or (cell.report(trial, run, task, known[task]) and ended == "stopped"):
                return


def trials_in_rows(
    study: ResolvedStudy, cell: Cell, rows: Iterable[Mapping[str, Any]], first: int
) -> dict[int, Values | None]:
    """Return the values of the trials of a cell, from number `first`, that have rows in the table `runs`.

    Those that share the training of another trial are left out: they follow from it.
    None stands for a trial whose values do not have the digest of its rows.
    """
    found: dict[int, Values | None] = {}
    for row in rows:
        number = row["trial"]
        if row["cell"] == cell.name and row["purpose"] == "search" and first <= number < REUSED:
            found[number] = found.get(number) or sampled_values(study, cell, row)
    return found


def increments_of(folder: Path, spec: RunSpec, sizes: Sequence[int]) -> list[float | None]:
    """Return the accuracy over the increments after each task; an empty list if the run's rows are gone.

    `sizes` are the classes of each task.
    """
    rows = {table: read_rows(folder, table, spec.run, merged=True) for table in ("tasks", "confusion")}
    confusions = primary_confusions(rows, tuple(sizes), spec.measured)
    return [summary(confusions[: t + 1], sizes[: t + 1])[INCREMENTS] for t in range(len(confusions))]
