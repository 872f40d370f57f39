"""`evaluate`: train each cell's selected trial and its published default again, and open the test set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis.lake.amounts import plural
from analysis.lake.run_folder import LOGS
from analysis.lake.run_rows import run_rows
from cl_core.own_code import only
from search.backends.ray_address import check_ray
from search.commands.summary import Summary, report_of
from search.commands.work import Warn, at_work
from search.cost.evaluation_cost import cost
from search.jobs.evaluation_queue import EvaluationQueue
from search.jobs.interrupts import draining, terminable
from search.jobs.spending import Spending
from search.lake.compaction import compact_left
from search.lake.ledger import note_opening
from search.lake.writer import start_tables, study_schemas
from search.preparation.evaluation import PreparedEvaluation, prepare_evaluation
from search.remote.working_copy import run_folder, working_in
from search.storage.code_record import by_other_code, write_code
from search.storage.repair import mend_folder
from spaces.resolved.environment import versions


def evaluate(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    retry_failed: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
    console: Console | None = None,
    warn: Warn = lambda warnings: None,
) -> Summary:
    """Evaluate a run folder, or continue its evaluation: ended runs are not trained again.

    `overrides` are "a.b=value" of `final`, `resources` and `budget`. Code that the folder names as
    module:attribute is imported only with `own_code`. With `accept_code` the evaluation continues although
    code that decides numbers has changed. Before the first run starts, the folder's `ledger.jsonl` gets a
    line that the test set is opened. Raises BadRequest before any work, and as `run_study` does.
    """
    began = time.monotonic()
    place = run_folder(folder)

    def checked() -> PreparedEvaluation:
        return prepare_evaluation(place, overrides, local=local, own_code=own_code, accept_code=accept_code)

    prepared = checked()
    if not local and (notes := check_ray()):
        warn(notes)
    with working_in(place), terminable(), only(None if own_code else ()):
        # Before the lock was held, another command may have gone on with the search.
        prepared = prepared.selected_again() if prepared.run.current else checked()
        _begin(prepared, warn)
        run = prepared.run
        jobs = EvaluationQueue(
            prepared.specs,
            place,
            prepared.data_of,
            retry_failed=retry_failed,
            bases=not local and run.study.study.storage.share,
            checkpoints=run.checkpoints.absolute(),
            spending=Spending(
                run.study.study.budget, place, run.allocation.gpu, time.time() - time.monotonic() + began
            ),
        )
        worked = not jobs.finished
        if worked:
            cells = list(dict.fromkeys(spec.cell for spec in jobs.runs.pending))
            count = len(jobs.runs.pending)
            note_opening(place, "evaluate", run.study.identity, cells, count, versions())
            if console is not None:
                console.print(cost(run, jobs.runs.pending, local), highlight=False, soft_wrap=True)
            what = (
                f"{run.study.name}: {plural(count, 'run')} of {plural(len(cells), 'cell')} on the test set,"
            )
            with at_work(run, jobs, what, local, console, warn, unit="runs") as carry_out:
                carry_out()
        report = None if draining() else report_of(place, worked)
        return _summary(prepared, worked, jobs.left, report, time.monotonic() - began)


def _begin(prepared: PreparedEvaluation, warn: Warn) -> None:
    """Make the folder ready."""
    run, place = prepared.run, prepared.run.folder
    skipped = [f"{name} is skipped: none of its trials has completed" for name in prepared.skipped]
    early = [f"{name} is evaluated before its confirmation has ended" for name in prepared.unconfirmed]
    warn([*prepared.data.notes, *run.notes, *skipped, *early, *mend_folder(place, run.checkpoints)])
    (place / LOGS).mkdir(exist_ok=True)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    start_tables(place, study_schemas(run.study.methods))
    compact_left(place)
    write_code(place, run.code)


def _summary(
    prepared: PreparedEvaluation, worked: bool, left: str | None, report: Path | None, seconds: float
) -> Summary:
    rows = run_rows(prepared.run.folder)
    mine = {spec.run: rows[spec.run] for spec in prepared.specs if spec.run in rows}
    return Summary(
        folder=prepared.run.folder,
        completed=sum(row["status"] == "completed" for row in mine.values()),
        failures={run: row["error"] or "" for run, row in mine.items() if row["status"] == "failed"},
        worked=worked,
        left=left,
        report=report,
        seconds=seconds,
        labels=[*prepared.run.labels, *by_other_code(prepared.run.study, mine.values())],
    )
