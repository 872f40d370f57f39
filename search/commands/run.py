"""`run`: a study from its file to its report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from analysis.lake.amounts import plural
from analysis.lake.run_folder import LOGS, STUDY, TABLES_FOLDER
from analysis.lake.run_rows import run_rows
from cl_core.aside import aside
from cl_core.errors import BadRequest
from cl_core.own_code import only
from cl_core.records import SEARCHING
from search.backends.ray_address import check_ray
from search.cells.search_queue import SearchQueue
from search.commands.summary import Summary, report_of
from search.commands.work import Warn, at_work
from search.cost.luck import lucky
from search.cost.packing import pack
from search.jobs.interrupts import draining, terminable
from search.jobs.spending import Spending
from search.lake.compaction import compact_left
from search.lake.ledger import note_opening
from search.lake.writer import start_tables, study_schemas
from search.preparation.prepared import Prepared, permitted, prepare
from search.remote.working_copy import run_folder, working_in
from search.storage.code_record import by_other_code, write_code
from search.storage.database import while_it_answers
from search.storage.repair import mend_folder
from spaces.resolved.environment import versions
from spaces.resolved.study_yaml import study_yaml
from spaces.study.study import Study
from spaces.study.study_file import existing_study


def said_before(prepared: Prepared) -> list[str]:
    """Return what a dry run says before its plan: warnings, and where a choice would be luck."""
    return [*prepared.warnings, *lucky(prepared.study)]


def run_study(
    study: str | Path | Mapping[str, object] | Study,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    trials_more: int = 0,
    local: bool = False,
    retry_failed: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
    console: Console | None = None,
    warn: Warn = lambda warnings: None,
) -> Summary:
    """Run a study, or continue it: what is finished in its folder is not done again.

    `study` is a preset's name, a YAML file, a mapping or a `Study`; `overrides` are "a.b=value". `local`
    works in this process, one run after another, without Ray. `console` shows progress; None keeps silent.
    `warn` receives `Prepared.warnings` before work begins. Code that a study file, or the folder, names as
    module:attribute is imported only with `own_code`; what a mapping, a `Study` or an override names is the
    caller's own. With `accept_code` the study continues although code that decides numbers has changed; the
    column `code` tells the runs apart. Raises BadRequest before any work, StorageError when nothing can be
    written any more, and KeyboardInterrupt on Ctrl-C and SIGTERM; after either, the same call continues.
    """
    began = time.monotonic()

    def checked() -> Prepared:
        return prepare(
            study,
            out,
            overrides,
            trials_more=trials_more,
            local=local,
            own_code=own_code,
            accept_code=accept_code,
        )

    out = run_folder(out) if out else None
    prepared = checked()
    folder = prepared.folder
    if not local and (notes := check_ray()):
        warn(notes)
    with working_in(folder), terminable(), only(permitted(study, overrides, own_code)):
        if not prepared.current:  # before the lock was held, another command may have grown the study
            prepared = checked()
        if not local and (packed := pack(prepared)):
            warn(packed)
            prepared = checked()
        warn(_begin(prepared))
        storage = prepared.study.study.storage
        clock = time.time() - time.monotonic() + began
        with (
            while_it_answers(storage.optuna or "journal", storage.password),
            _queue(prepared, local, retry_failed, clock) as queue,
        ):
            warn(queue.notes)
            worked = not queue.finished
            if worked:
                warn(prepared.warnings)  # now that nothing can be refused any more
                if prepared.study.study.protocol.opens_test:
                    _note_opening(prepared)
                what = f"{prepared.study.name}: {plural(len(prepared.study.cells), 'cell')}"
                with at_work(prepared, queue, what, local, console, warn) as carry_out:
                    carry_out()
            left = queue.left
        report = None if draining() else report_of(folder, worked)
        return _summary(prepared, worked, left, report, time.monotonic() - began)


def _begin(prepared: Prepared) -> list[str]:
    """Make the folder ready; return a line for each thing in it that was mended."""
    folder = prepared.folder
    mended = mend_folder(folder, prepared.checkpoints)
    schemas = study_schemas(prepared.study.methods)
    text = study_yaml(prepared.study, existing_study(folder / STUDY))
    with aside(folder / STUDY) as hidden:  # first: a folder with other files and no study is refused
        hidden.write_text(text, encoding="utf-8")
    for name in (LOGS, TABLES_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    try:
        prepared.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(
            f"storage.checkpoints must be writable: {prepared.checkpoints}: {error.strerror}"
        ) from error
    start_tables(folder, schemas)
    compact_left(folder)
    write_code(folder, prepared.code)
    return mended


def _queue(prepared: Prepared, local: bool, retry_failed: bool, began: float) -> SearchQueue:
    """Open the queue of the search."""
    study = prepared.study.study
    return SearchQueue(
        prepared.study,
        prepared.folder,
        retry_failed=retry_failed,
        bases=not local and study.storage.share,
        checkpoints=prepared.checkpoints.absolute(),
        spending=Spending(study.budget, prepared.folder, prepared.allocation.gpu, began),
        known=prepared.known,
    )


def _note_opening(prepared: Prepared) -> None:
    """Write down that the runs of a study open the test set, before they do."""
    study = prepared.study
    what = study.study.protocol.select_on
    runs = sum(cell.budget * len(study.runs(cell)) for cell in study.cells)
    cells = [cell.name for cell in study.cells]
    note_opening(prepared.folder, what, study.identity, cells, runs, versions())


def _summary(
    prepared: Prepared, worked: bool, left: str | None, report: Path | None, seconds: float
) -> Summary:
    folder = prepared.folder
    rows = {run: row for run, row in run_rows(folder).items() if row["purpose"] in SEARCHING}
    by_status = [row["status"] for row in rows.values()]
    return Summary(
        folder=folder,
        completed=by_status.count("completed"),
        stopped=by_status.count("stopped"),
        failures={run: row["error"] or "" for run, row in sorted(rows.items()) if row["status"] == "failed"},
        worked=worked,
        left=left,
        report=report,
        seconds=seconds,
        labels=[*prepared.labels, *by_other_code(prepared.study, rows.values())],
    )
