"""A study from its file to its report: `run_study`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.aside import aside
from cl_core.errors import BadRequest, ClSearchError
from cl_core.own_code import only, references
from search.backends.allocation import Plan, kept, plan, unguided
from search.backends.ray_address import check_ray, cluster_address
from search.jobs.interrupts import terminable

if TYPE_CHECKING:
    from rich.console import Console

    from analysis import Results
    from search.cells.queue import Known
    from search.jobs.queue import Jobs
    from search.storage.code_record import Code
    from spaces.resolved.study import ResolvedStudy
    from spaces.study.study import Study

REPORT = "report.html"
STUDY = "study.yaml"
PLAN = "plan.json"
Warn = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Summary:
    """What a `run` command came to. Counts are of runs, over the whole folder."""

    folder: Path
    completed: int = 0
    stopped: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)  # trial -> first line of its error
    worked: bool = False  # whether anything was done
    left: str | None = None  # why something is left to do: the budget is spent, or cells are paused
    report: Path | None = None
    seconds: float = 0.0
    labels: Sequence[str] = ()  # what has to be said wherever the numbers are

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return len(self.failures)

    @property
    def results(self) -> Results:
        """The tables."""
        from analysis import open_results

        return open_results(self.folder)


@dataclass(frozen=True)
class Prepared:
    """A study checked against its data, its folder and the machine, before anything is written."""

    study: ResolvedStudy
    folder: Path
    checkpoints: Path
    plan: Plan
    known: Known  # what the runs found that the search starts from, and its cells do not know yet
    code: Code  # that decides numbers
    notes: Sequence[str] = ()  # on how the folder is continued

    @property
    def warnings(self) -> list[str]:
        """Notes on images and code, and valid settings that are probably not intended; one line each."""
        from search.cells.warm_start import left_out
        from search.storage.code_record import changes
        from spaces.resolved.warnings import notes_of, warnings_of

        out = [*notes_of(self.study.data), *self.notes, *warnings_of(self.study)]
        out += unguided(self.study, self.plan.concurrent)
        for source in self.known:
            theirs = changes(Path(source).expanduser(), self.code)
            out += [f"search.start_from {source} was found with other code: {change}" for change in theirs]
        return out + [line for source in self.known for line in left_out(source, self.known[source])]

    @property
    def labels(self) -> Sequence[str]:
        """What has to be said wherever the study's numbers are."""
        label = self.study.study.protocol.label
        return [label] if label else []


def run_study(
    study: str | Path | Mapping[str, Any] | Study,
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
    `warn` is given `Prepared.warnings` before work begins. Code that a study file, or the
    folder, names as module:attribute is imported only with `own_code`; what a mapping, a `Study` or an
    override names is the caller's own. Where code that decides
    numbers has changed since the folder's runs, `accept_code` goes on; the column `code` tells them apart.
    Raises BadRequest before any work, StorageError when nothing can be written any more, and
    KeyboardInterrupt on Ctrl-C and SIGTERM; after either, the same call continues.
    """
    from search.storage.database import while_it_answers
    from search.storage.run_folder import held

    began = time.monotonic()
    how: dict[str, Any] = {
        "trials_more": trials_more,
        "local": local,
        "own_code": own_code,
        "accept_code": accept_code,
    }
    prepared = prepare(study, out, overrides, **how)
    folder = prepared.folder
    if not local and (notes := check_ray()):
        warn(notes)
    with held(folder), terminable(), only(_permitted(study, overrides, own_code)):
        # Under the lock, what stands in the folder is looked at again: another command may have grown it.
        prepared = prepare(study, out, overrides, **how)
        warn(_begin(prepared))
        storage = prepared.study.study.storage
        with while_it_answers(storage.optuna or "journal", storage.password):
            worked, left = _work(
                prepared, local, retry_failed, console, time.time() - time.monotonic() + began, warn
            )
        report = report_of(folder, worked)
        return _summary(prepared, worked, left, report, time.monotonic() - began)


def prepare(
    study: str | Path | Mapping[str, Any] | Study,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    trials_more: int = 0,
    local: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
) -> Prepared:
    """Check everything that can be checked before work; nothing is left behind. Raises BadRequest."""
    with only(_permitted(study, overrides, own_code)):
        return _prepare(study, out, overrides, trials_more, local, accept_code)


def _permitted(
    study: str | Path | Mapping[str, Any] | Study, overrides: Sequence[str], own_code: bool
) -> list[str] | None:
    """The code that a call may import; None for all. What a mapping, a `Study` or an override names is the
    caller's own."""
    given = () if isinstance(study, str | Path) else (study,)
    return None if own_code else references(*given, *overrides)


def _prepare(
    study: str | Path | Mapping[str, Any] | Study,
    out: str | Path | None,
    overrides: Sequence[str],
    trials_more: int,
    local: bool,
    accept_code: bool,
) -> Prepared:
    from search.commands.train import check_writable
    from search.jobs.spending import check_budget
    from search.storage.code_record import ACCEPT, check_code, code_of_study
    from search.storage.run_folder import check_storage
    from search.worker.runner import cached_data
    from spaces.resolved.checks import check_judged
    from spaces.resolved.resolve import resolve
    from spaces.study.study import Study
    from spaces.study.study_file import existing_study, load_study, standing_study

    asked = study if isinstance(study, Study) else load_study(study, overrides)
    if isinstance(study, Study) and overrides:
        raise BadRequest(
            "overrides change a study file, not a Study: give the file, or change the Study itself"
        )
    folder = Path(out).expanduser() if out else Path(asked.storage.root).expanduser() / asked.study
    existing = existing_study(folder)
    if trials_more < 0:
        raise BadRequest(f"--trials +N takes a positive number, not {trials_more}")
    if trials_more:
        before = standing_study(existing) if existing else asked
        asked = asked.with_trials(before.search.trials + trials_more)
    wanted = asked.resources
    planned = plan(
        wanted.cpu, wanted.gpu, wanted.concurrent, cluster=cluster_address() is not None and not local
    )
    check_budget(asked.budget, planned.gpu, begun=existing is not None)
    device = "cuda" if planned.gpu else "cpu"
    resolved = resolve(asked, cached_data(asked.tuning_data), existing, device)
    notes: list[str] = []
    if existing is not None:
        planned, notes = kept(resolved, planned, wanted)
    elif asked.judging_data != asked.tuning_data:  # what cannot be judged is not begun
        check_judged(resolved, cached_data(asked.judging_data))
    check_folder(folder)
    check_storage(resolved.study.storage, folder)
    code = code_of_study(resolved)
    notes += check_code(folder, code, accept_code, ACCEPT)
    known = known_sources(resolved, folder, begun=existing is not None)
    checkpoints = folder / "checkpoints"
    if asked.storage.checkpoints:
        checkpoints = Path(asked.storage.checkpoints).expanduser()
        check_writable(checkpoints, "storage.checkpoints")
    return Prepared(resolved, folder, checkpoints, planned, known, code, notes)


def known_sources(study: ResolvedStudy, folder: Path, begun: bool) -> Known:
    """What the runs found that the search starts from. One that every cell has learnt from is not read
    again: it may be gone, or have grown. Raises BadRequest."""
    from search.cells.standing import read_learnt
    from search.cells.warm_start import observations

    sources, known = study.study.search.sources, {}
    names = [cell.name for cell in study.cells]
    learnt = (
        read_learnt(folder, study.study.storage, names) if begun and sources else dict.fromkeys(names, ())
    )
    for source in sources:
        cold = [name for name, seen in learnt.items() if source not in seen]
        if begun and cold and not Path(source).expanduser().is_dir():
            raise BadRequest(
                f"search.start_from {source} is gone, and {cold[0]} has not learnt from it yet: restore it, "
                "or use another --out"
            )
        if cold:
            known[source] = observations(study, source, cold if begun else None)
    return known


def check_folder(folder: Path) -> None:
    """Raise BadRequest unless `folder` is a run's own, or empty, or not there yet and can be made."""
    from search.commands.train import check_writable

    check_writable(folder, "the run's folder")
    if (folder / STUDY).exists() or not folder.exists():
        return
    beside = (path.name for path in folder.iterdir() if not path.name.startswith("."))
    strange = sorted(name for name in beside if name != PLAN)  # a plan comes before its run
    if strange:
        raise BadRequest(
            f"{folder} holds {strange[0]!r} and no {STUDY}, so it is no run's folder: name another with --out"
        )


def _begin(prepared: Prepared) -> list[str]:
    """Make the folder ready; returns a line for each thing in it that was mended."""
    from search.lake.writer import start_tables, study_schemas
    from search.storage.code_record import write_code
    from search.storage.repair import mend_folder
    from spaces.resolved.study_yaml import study_yaml
    from spaces.study.study_file import existing_study

    folder = prepared.folder
    mended = mend_folder(folder, prepared.checkpoints)
    for name in ("logs", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    try:
        prepared.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(
            f"storage.checkpoints must be writable: {prepared.checkpoints}: {error.strerror}"
        ) from error
    existing = existing_study(folder)
    start_tables(folder, study_schemas(prepared.study.methods))
    with aside(folder / STUDY) as hidden:
        hidden.write_text(study_yaml(prepared.study, existing), encoding="utf-8")
    write_code(folder, prepared.code)
    return mended


def _work(
    prepared: Prepared, local: bool, retry_failed: bool, console: Console | None, began: float, warn: Warn
) -> tuple[bool, str | None]:
    """Carry out what is left: whether there was anything, and why something is left all the same."""
    from search.cells.queue import Cells
    from search.jobs.spending import Budget

    budget = Budget(prepared.study.study.budget, prepared.folder, prepared.plan.gpu, began)
    with Cells(
        prepared.study,
        prepared.folder,
        retry_failed=retry_failed,
        bases=not local and prepared.study.study.storage.share,
        checkpoints=prepared.checkpoints.absolute(),
        budget=budget,
        known=prepared.known,
    ) as cells:
        warn(cells.notes)
        if cells.finished:
            return False, cells.left
        warn(prepared.warnings)  # now that nothing is left to be refused
        if prepared.study.study.protocol.split == "test":
            _note_oracle(prepared)
        what = f"{prepared.study.name}: {len(prepared.study.cells)} cells"
        work_off(prepared, cells, what, local, console)
        return True, cells.left


def _note_oracle(prepared: Prepared) -> None:
    """Write down that a search opens the test set, before it does."""
    from search.lake.ledger import note_opening
    from spaces.resolved.environment import versions

    study = prepared.study
    runs = sum(cell.budget * len(study.runs(cell)) for cell in study.cells)
    cells = [cell.name for cell in study.cells]
    note_opening(prepared.folder, "oracle-test", study.identity, cells, runs, versions())


def work_off(prepared: Prepared, jobs: Jobs, what: str, local: bool, console: Console | None) -> None:
    """Carry out `jobs`, with Ray or in this process, and show how it goes; `what` says what it is."""
    if console is None:
        _carry_out(prepared, jobs, local, lambda: None)
        return
    from search.commands.live_table import Live

    _announce(console, prepared, what, local)
    with Live(jobs.progress, prepared.study.direction, console) as live:
        _carry_out(prepared, jobs, local, live.update)


def _carry_out(prepared: Prepared, jobs: Jobs, local: bool, watch: Callable[[], None]) -> None:
    from search.jobs.dispatcher import Session

    study = prepared.study
    share = study.study.storage.share
    session = Session(jobs, study.methods, prepared.folder, prepared.checkpoints, study.threads, share, watch)
    if local:
        from search.backends.local import run_local

        run_local(session)
        return
    from search.backends.ray_environment import ray_environment

    with ray_environment():
        from search.backends.ray_tune import run_tune

        run_tune(session, prepared.plan)


def _announce(console: Console, prepared: Prepared, what: str, local: bool) -> None:
    planned = prepared.plan
    way = "in this process" if local else f"{planned.concurrent} at a time, each with {planned.cpu:g} CPUs"
    if planned.gpu and not local:
        way += f" and {planned.gpu:g} GPUs"
    console.print(f"{what} in {prepared.folder}, {way}", highlight=False, soft_wrap=True)


def _newest(folder: Path) -> float:
    """When a run's end was last written: a report that is older has not seen it."""
    written = (folder / "tables" / "runs").glob("[!.]*.parquet")
    return max((path.stat().st_mtime for path in written), default=0.0)


def report_of(folder: Path, worked: bool) -> Path:
    path = folder / REPORT
    if worked or not path.exists() or path.stat().st_mtime < _newest(folder):
        from analysis.report.page import write_report

        try:
            path = write_report(folder)
        except BadRequest as error:  # what was asked was fine: all of it is done but this
            raise ClSearchError(f"the runs have ended, but the report is not written: {error}") from error
    return path


def _summary(prepared: Prepared, worked: bool, left: str | None, report: Path, seconds: float) -> Summary:
    from search.lake.writer import recorded
    from search.storage.code_record import by_other_code

    folder = prepared.folder
    rows = {trial: row for trial, row in recorded(folder).items() if row["purpose"] == "search"}
    by_status = [row["status"] for row in rows.values()]
    return Summary(
        folder=folder,
        completed=by_status.count("completed"),
        stopped=by_status.count("stopped"),
        failures={t: row["error"] or "" for t, row in sorted(rows.items()) if row["status"] == "failed"},
        worked=worked,
        left=left,
        report=report,
        seconds=seconds,
        labels=[*prepared.labels, *by_other_code(prepared.study, rows.values())],
    )
