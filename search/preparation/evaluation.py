"""An evaluation checked before it starts: each cell's selected trial, its published default, their runs.

The selected trial is that of `analysis.selection`. Two kinds of runs are made. Their
seeds are new, and the same for selected trial and default, so that both pair:

final      selected trial and default on training and validation rows, over the final class orders: reported
reference  the selected trial on the search's split, over its class orders and the final ones: tells how
           much of the selected value was luck, and how much the test rows differ; not where values are
           selected inside each run (chf, adaptive)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import open_results
from analysis.lake.run_folder import STUDY
from analysis.selection.selection import cells
from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.own_code import only
from cl_core.records import OWN_DEFAULT
from cl_core.training.checks import check
from search.backends.allocation import allocate, keep_device
from search.backends.cluster_nodes import cluster_nodes
from search.cells.cell_progress import read_progress
from search.cells.stored_trial import stored_values
from search.jobs.spending import check_budget
from search.preparation.evaluation_request import evaluation_request
from search.preparation.kept_packing import kept_packing
from search.preparation.prepared import Prepared, check_folder, checkpoints_of, state_of
from search.storage.code_record import ACCEPT, check_code, code_of_study
from search.storage.studies import read_studies
from search.worker.runner import cached_data
from spaces.resolved.cell import Cell
from spaces.resolved.resolve import resolve
from spaces.resolved.run_spec import RunSpec, trial_digest
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values
from spaces.study.study_file import existing_study


@dataclass(frozen=True)
class SelectedTrial:
    """The selected trial of a cell, and its published default, each with its number and values."""

    cell: Cell
    number: int
    values: Values
    default_number: int
    default: Values

    @property
    def is_default(self) -> bool:
        """Tell whether the default itself is selected: it is then trained once, as the default.

        An adaptive trial begins with the default values and changes them, so it is not the default.
        """
        return not self.cell.adapted.searched and trial_digest(self.values) == trial_digest(self.default)


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation checked against its run folder, data and machine, before anything is written."""

    run: Prepared
    selected: tuple[SelectedTrial, ...]
    skipped: tuple[str, ...]  # cells without a completed trial
    specs: tuple[RunSpec, ...]  # in the order in which they are handed out
    data: Data  # that selected trials are judged on

    def data_of(self, spec: RunSpec) -> Data:
        """Return the images of a run."""
        return self.data if spec.purpose == "final" else self.run.study.data

    @property
    def unconfirmed(self) -> list[str]:
        """The cells whose confirmation has runs left."""
        progress = {cell.cell: cell for cell in read_progress(self.run.folder)}
        names = [selected.cell.name for selected in self.selected]
        return [name for name in names if progress[name].confirmed < progress[name].to_confirm]

    def selected_again(self) -> PreparedEvaluation:
        """Select anew from the tables, which may have grown since; all else is kept. Raises BadRequest."""
        return _with_runs(self.run, self.data)


def prepare_evaluation(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
) -> PreparedEvaluation:
    """Check everything that can be checked before work; leave nothing behind. Raises BadRequest."""
    with only(None if own_code else ()):
        return _prepare(folder, overrides, local, accept_code)


def _prepare(folder: Path, overrides: Sequence[str], local: bool, accept_code: bool) -> PreparedEvaluation:
    before, asked = state_of(folder), evaluation_request(folder, overrides)
    if asked.protocol.select_on == "fixed":
        raise BadRequest(
            "evaluate trains selected trials again, but under protocol.select_on fixed nothing is selected "
            f"and test rows are measured already: see the report (cl-search report {folder})"
        )
    check_folder(folder)
    nodes = None if local else cluster_nodes()
    planned = allocate(asked.resources, nodes, kept_packing(folder))
    check_budget(asked.budget, planned.gpu)
    study = resolve(asked, cached_data(asked.tuning_data), existing_study(folder / STUDY))
    planned, notes = keep_device(study, planned, asked.resources, nodes)
    judged = cached_data(asked.judging_data)
    for data in (study.data, judged):
        if data.test is None:
            raise BadRequest(
                f"evaluate opens the test split, and data set {data.name!r} has none: give it one, or judge "
                "by the search's own numbers"
            )
    code = code_of_study(study)
    notes += check_code(folder, code, accept_code, ACCEPT)
    run = Prepared(study, folder, checkpoints_of(asked, folder), planned, {}, code, notes, before)
    return _with_runs(run, judged)


def _with_runs(run: Prepared, judged: Data) -> PreparedEvaluation:
    """Select the trials and make their runs. Raises BadRequest."""
    selected, skipped = select(run.study, run.folder)
    if not selected and not skipped:
        raise BadRequest(
            f"evaluate trains selected hyperparameters again, and {run.folder} searches class orders alone: "
            "see its report"
        )
    if not selected:
        raise BadRequest(
            f"evaluate needs completed trials, and {run.folder} has none: run the study first, and see its "
            f"state (cl-search status {run.folder})"
        )
    specs = tuple(planned_runs(run.study, selected))
    prepared = PreparedEvaluation(run, tuple(selected), tuple(skipped), specs, judged)
    for spec in specs:
        try:
            check(spec.configuration, prepared.data_of(spec))
        except BadRequest as error:
            raise BadRequest(f"{spec.cell}: {error}") from None
    return prepared


def select(study: ResolvedStudy, folder: Path) -> tuple[list[SelectedTrial], list[str]]:
    """Return the selected trial of every cell, and the names of the cells where no trial has completed.

    The values come from Optuna's storage, exactly as they were sampled. Raises BadRequest where it does not
    hold them.
    """
    numbers = {cell.name: cell.selected_trial for cell in cells(open_results(folder))}
    sampled = _sampled(folder, study)
    paper = "paper" in study.study.search.start_from
    selected, skipped = [], []
    for cell in study.cells:
        if cell.seeks:  # a class order, which is not selected for other data
            continue
        number = numbers.get(cell.name)
        if number is None:
            skipped.append(cell.name)
            continue
        known = {OWN_DEFAULT: cell.space.defaults(), **sampled.get(cell.name, {})}
        for needed in {number, 0} if paper else {number}:
            if needed not in known:
                raise BadRequest(
                    f"the run folder's Optuna storage does not hold trial {needed} of {cell.name}, which "
                    "its tables do: restore it from a copy"
                )
        first = paper and not cell.adapted.searched  # trial 0 is the published default
        default = known[0] if first else cell.space.defaults()
        selected.append(SelectedTrial(cell, number, known[number], 0 if first else OWN_DEFAULT, default))
    return selected, skipped


def planned_runs(study: ResolvedStudy, selected: Sequence[SelectedTrial]) -> list[RunSpec]:
    """Return every run, one class order after another: cells are equally far when they are cut short."""
    protocol, final = study.study.protocol, study.study.final
    out = []
    orders = max(protocol.orders, final.orders)
    for place in range(orders):
        for seed in range(protocol.seeds, protocol.seeds + final.seeds):
            for one in selected:
                order = study.orders(one.cell, orders)[place]
                if place < final.orders:
                    out.append(_default(study, one, order, seed))
                    if not one.is_default:
                        out.append(_selected(study, one, "final", order, seed))
                if not protocol.inside_runs:  # else nothing was selected that could have been luck
                    out.append(_selected(study, one, "reference", order, seed))
    return out


def _default(study: ResolvedStudy, one: SelectedTrial, order: str, seed: int) -> RunSpec:
    return study.run_for("final", one.cell, one.default_number, one.default, order, seed, fixed=True)


def _selected(study: ResolvedStudy, one: SelectedTrial, purpose: str, order: str, seed: int) -> RunSpec:
    return study.run_for(purpose, one.cell, one.number, one.values, order, seed)


def _sampled(folder: Path, study: ResolvedStudy) -> dict[str, dict[int, Values]]:
    """Return cell -> number -> values, from the run folder's Optuna storage."""
    with read_studies(folder, study.study.storage) as studies:
        if studies is None:
            return {}
        known = studies.ids()
        names = [cell.name for cell in study.cells if cell.name in known]
        return {name: stored_values(studies.storage, known[name]) for name in names}
