"""`rerun`: one recorded run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis import Comparison, equal, open_results
from analysis.lake.run_folder import log_file
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from cl_core.own_code import only
from cl_core.records import TABLES
from search.lake.writer import read_schemas, start_tables
from search.preparation.recorded_run import recorded_spec
from search.storage.code_record import note_on_run
from search.storage.scratch import scratch
from search.worker.logs import checked_run, logged, named_run
from search.worker.runner import Runner


def rerun(
    folder: Path, run: str, say: Callable[[str], None] = lambda line: None, own_code: bool = False
) -> Comparison:
    """Train a recorded run again in a folder of its own, and compare every row that must be equal.

    Code that the folder names as module:attribute is imported only with `own_code`. Raises BadRequest when
    there is no such run, or when its data cannot be found.
    """
    with only(None if own_code else ()):
        return _rerun(folder, run, say)


def _rerun(folder: Path, run: str, say: Callable[[str], None]) -> Comparison:
    checked_run(run)
    rows = run_rows(folder)
    if run not in rows:
        if not folder.is_dir():
            raise BadRequest(f"no folder {folder}: name a run folder, such as runs/quickstart")
        run = named_run(run, rows)
    row = rows[run]
    spec = recorded_spec(folder, row)
    for name in TABLES:  # refuse rows that cannot be compared now, not when all is trained
        open_results(folder).read(name, [run])
    with scratch() as again:
        start_tables(again, read_schemas(folder))
        log = log_file(again, run)
        with logged(log):
            runner = Runner(spec, again, again / "checkpoints")
        for note in note_on_run(folder, row, spec.configuration.data.name):
            say(note)
        while True:
            with logged(log):
                progress = runner.step()
                if row["status"] == "stopped" and progress.task + 1 == row["tasks_done"]:
                    progress = runner.stop()
            say(progress.line(spec.objectives[0]))
            if progress.done:
                break
        return equal(folder, again, runs=[run])
