"""`evaluate`: what each cell has chosen, and its published default, trained again for the sealed test set.

The choice is the configuration that ranks first in `analysis.selection`. Two kinds of runs are made, with
seeds that the search never used, the same for choice and default, so that they pair:

final      choice and default on training and validation rows, over the final class orders: what is reported
reference  the choice on the split of the search, over its class orders and the final ones: what tells how
           much of the value it was chosen by was luck, and how much the test rows are others; not under chf
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.own_code import only
from cl_core.records import OWN_DEFAULT
from cl_core.training.checks import check
from search.backends.ray_address import check_ray, cluster_address
from search.commands.run import Prepared, Summary, check_folder, report_of, work_off
from search.cost.evaluation_cost import cost
from search.jobs.evaluation_queue import Evaluation
from spaces.resolved.cell import Cell
from spaces.resolved.run_spec import RunSpec, evaluated, trial_digest
from spaces.resolved.study import ResolvedStudy, short_order
from spaces.space.space import Values

if TYPE_CHECKING:
    from rich.console import Console

    from spaces.study.study import Study

CHANGEABLE = (
    "final.",
    "resources.",
    "budget.",
    "data.root",
    "protocol.evaluate_on.root",
    "storage.checkpoints",
)


@dataclass(frozen=True)
class Choice:
    """What stands for a cell: the configuration chosen, and its published default."""

    cell: Cell
    number: int
    config: Values
    default_number: int
    default: Values

    @property
    def is_default(self) -> bool:
        """Whether the choice is the default itself, which is then trained once, as the default."""
        return trial_digest(self.config) == trial_digest(self.default)


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation checked against its run, data and machine, before anything is written."""

    run: Prepared
    choices: tuple[Choice, ...]
    skipped: tuple[str, ...]  # cells without a completed configuration
    specs: tuple[RunSpec, ...]  # in the order in which they are handed out
    data: Data  # that choices are judged on

    def data_of(self, spec: RunSpec) -> Data:
        """The images of a run."""
        return self.data if spec.purpose == "final" else self.run.study.data


def evaluate(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    retry_failed: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
    console: Console | None = None,
    warn: Callable[[Sequence[str]], None] = lambda warnings: None,
) -> Summary:
    """Evaluate the run in `folder`, or continue that: runs that have ended are not trained again.

    `overrides` are "a.b=value" of `final`, `resources` and `budget`. Code that the folder names as
    module:attribute is imported only with `own_code`; `accept_code` goes on where code that
    decides numbers has changed. Before the first run starts, a line of
    the folder's `ledger.jsonl` says that the test set is opened. Raises BadRequest before any work, and as
    `run_study` does.
    """
    from search.jobs.interrupts import terminable
    from search.jobs.spending import Budget
    from search.lake.ledger import note_opening
    from search.lake.writer import start_tables, study_schemas
    from search.storage.code_record import write_code
    from search.storage.repair import mend_folder
    from search.storage.run_folder import held
    from spaces.resolved.environment import versions

    began = time.monotonic()
    place = Path(folder).expanduser()
    how: dict[str, Any] = {"local": local, "own_code": own_code, "accept_code": accept_code}
    prepare_evaluation(place, overrides, **how)
    if not local and (notes := check_ray()):
        warn(notes)
    with held(place), terminable(), only(None if own_code else ()):
        # Under the lock once more: another command may have gone on with the search.
        prepared = prepare_evaluation(place, overrides, **how)
        run = prepared.run
        skipped = [
            f"{name} is skipped: none of its configurations has completed" for name in prepared.skipped
        ]
        warn([*prepared.data.notes, *run.notes, *skipped, *mend_folder(place, run.checkpoints)])
        (place / "logs").mkdir(exist_ok=True)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        start_tables(place, study_schemas(run.study.methods))
        write_code(place, run.code)
        clock = time.time() - time.monotonic() + began
        jobs = Evaluation(
            prepared.specs,
            place,
            prepared.data_of,
            retry_failed=retry_failed,
            bases=not local and run.study.study.storage.share,
            checkpoints=run.checkpoints.absolute(),
            budget=Budget(run.study.study.budget, place, run.plan.gpu, clock),
        )
        worked = not jobs.finished
        if worked:
            cells = list(dict.fromkeys(spec.cell for spec in jobs.pending))
            count = len(jobs.pending)
            note_opening(place, "evaluate", run.study.identity, cells, count, versions())
            if console is not None:
                console.print(cost(run, jobs.pending, local), highlight=False, soft_wrap=True)
            what = f"{run.study.name}: {count} runs of {len(cells)} cells on the test set,"
            work_off(run, jobs, what, local, console)
        report = report_of(place, worked)
        return _summary(prepared, worked, jobs.left, report, time.monotonic() - began)


def prepare_evaluation(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    local: bool = False,
    own_code: bool = False,
    accept_code: bool = False,
) -> PreparedEvaluation:
    """Check everything that can be checked before work; nothing is left behind. Raises BadRequest."""
    with only(None if own_code else ()):
        return _prepare(folder, overrides, local, accept_code)


def _prepare(folder: Path, overrides: Sequence[str], local: bool, accept_code: bool) -> PreparedEvaluation:
    from search.backends.allocation import kept, plan
    from search.commands.train import check_writable
    from search.jobs.spending import check_budget
    from search.storage.code_record import ACCEPT, check_code, code_of_study
    from search.worker.runner import cached_data
    from spaces.resolved.resolve import resolve
    from spaces.study.study_file import existing_study

    existing = existing_study(folder) if folder.is_dir() else None
    if existing is None or not (folder / "tables" / "runs").is_dir():
        raise BadRequest(f"evaluate needs the folder of a run, and {folder} holds none: name another")
    check_folder(folder)
    asked = _asked(existing, overrides)
    wanted = asked.resources
    cluster = cluster_address() is not None and not local
    planned = plan(wanted.cpu, wanted.gpu, wanted.concurrent, cluster=cluster)
    check_budget(asked.budget, planned.gpu)
    study = resolve(asked, cached_data(asked.tuning_data), existing)
    planned, notes = kept(study, planned, wanted)
    judged = cached_data(asked.judging_data)
    for data in (study.data, judged):
        if data.test is None:
            raise BadRequest(
                f"evaluate opens the test split, and data set {data.name!r} has none: give it one, or judge "
                "by the search's own numbers"
            )
    choices, skipped = choose(study, folder)
    if not choices and not skipped:
        raise BadRequest(
            f"evaluate trains chosen hyperparameters again, and {folder} searches class orders alone: see "
            "its report"
        )
    if not choices:
        raise BadRequest(
            f"evaluate needs completed configurations, and {folder} has none: run the study first, and "
            f"see where it stands (cl-search status {folder})"
        )
    checkpoints = folder / "checkpoints"
    if asked.storage.checkpoints:
        checkpoints = Path(asked.storage.checkpoints).expanduser()
        check_writable(checkpoints, "storage.checkpoints")
    code = code_of_study(study)
    notes += check_code(folder, code, accept_code, ACCEPT)
    run = Prepared(study, folder, checkpoints, planned, {}, code, notes)
    specs = tuple(planned_runs(study, choices))
    prepared = PreparedEvaluation(run, tuple(choices), tuple(skipped), specs, judged)
    for spec in specs:
        try:
            check(spec.configuration, prepared.data_of(spec))
        except BadRequest as error:
            raise BadRequest(f"{spec.cell}: {error}") from None
    return prepared


def choose(study: ResolvedStudy, folder: Path) -> tuple[list[Choice], list[str]]:
    """The choice of every cell, and the names of the cells where no configuration has completed.

    The values are those that Optuna's storage holds, exactly as they were sampled. Raises BadRequest where
    it does not hold them.
    """
    from analysis import open_results
    from analysis.selection.selection import cells

    ranked = {cell.name: cell.ranking for cell in cells(open_results(folder))}
    sampled = _sampled(folder, study)
    paper = "paper" in study.study.search.start_from
    choices, skipped = [], []
    for cell in study.cells:
        if cell.seeks:  # a class order, which is no choice for other data
            continue
        ranking = ranked.get(cell.name)
        if ranking is None or ranking.empty:
            skipped.append(cell.name)
            continue
        number, known = int(ranking["trial"].iloc[0]), sampled.get(cell.name, {})
        for needed in {number, 0} if paper else {number}:
            if needed not in known:
                raise BadRequest(
                    f"the run's Optuna storage does not hold configuration {needed} of {cell.name}, which "
                    "its tables do: restore it from a copy"
                )
        default = known[0] if paper else cell.space.defaults()
        choices.append(Choice(cell, number, known[number], 0 if paper else OWN_DEFAULT, default))
    return choices, skipped


def planned_runs(study: ResolvedStudy, choices: Sequence[Choice]) -> list[RunSpec]:
    """Every run, class order by class order, so that all cells have come equally far when it is cut short."""
    protocol, final = study.study.protocol, study.study.final
    out = []
    orders = max(protocol.orders, final.orders)
    for place in range(orders):
        for seed in range(protocol.seeds, protocol.seeds + final.seeds):
            for choice in choices:
                order = study.orders(choice.cell, orders)[place]
                if place < final.orders:
                    out.append(_run(study, choice, "default", order, seed))
                    if not choice.is_default:
                        out.append(_run(study, choice, "final", order, seed))
                if protocol.chf is None:  # else nothing was chosen that could have been luck
                    out.append(_run(study, choice, "reference", order, seed))
    return out


def _run(study: ResolvedStudy, choice: Choice, kind: str, order: str, seed: int) -> RunSpec:
    cell, purpose = choice.cell, "reference" if kind == "reference" else "final"
    number, config = choice.number, choice.config
    if kind == "default":
        number, config = choice.default_number, choice.default
    configuration = study.configuration(cell, config, order, seed)
    return RunSpec(
        run=f"{cell.name}/{number}/{purpose}/{short_order(order)}/s{seed}",
        cell=cell.name,
        label=cell.label,
        trial=number,
        purpose=purpose,
        trial_digest=trial_digest(config),
        configuration=evaluated(configuration, purpose, study.study.judging_data),
        objectives=tuple(study.objectives),
        split="test" if purpose == "final" else study.study.protocol.split,
    )


def _sampled(folder: Path, study: ResolvedStudy) -> dict[str, dict[int, Values]]:
    """Cell -> number -> configuration, from the run's Optuna storage, where a cell may have a second study,
    of what stopping compares."""
    from search.cells.cell_study import asked
    from search.storage.database import while_it_answers
    from search.storage.run_folder import read_studies

    part = study.study.storage
    studies = read_studies(folder, part)
    if studies is None:
        return {}
    names = [cell.name for cell in study.cells]
    with studies, while_it_answers("of this run", part.password):
        known = studies.ids()
        return {name: asked(studies.storage, known[name]) for name in names if name in known}


def _asked(existing: dict[str, object], overrides: Sequence[str]) -> Study:
    """The run's study with what may be changed for its evaluation; the search's budget is not its own."""
    from spaces.study.study_file import RESOLVED, apply_override, parse_study, standing_study

    standing_study(existing)
    plain = {key: value for key, value in existing.items() if key not in (RESOLVED, "budget")}
    for override in overrides:
        if not override.startswith(CHANGEABLE):
            raise BadRequest(
                f"--set {override!r}: an evaluation may change {', '.join(CHANGEABLE)} alone, for the "
                "configurations stand: leave it out"
            )
        apply_override(plain, override)
    return parse_study(plain)


def _summary(
    prepared: PreparedEvaluation, worked: bool, left: str | None, report: Path, seconds: float
) -> Summary:
    from search.lake.writer import recorded
    from search.storage.code_record import by_other_code

    rows = recorded(prepared.run.folder)
    mine = {spec.run: rows[spec.run] for spec in prepared.specs if spec.run in rows}
    return Summary(
        folder=prepared.run.folder,
        completed=sum(row["status"] == "completed" for row in mine.values()),
        failures={t: row["error"] or "" for t, row in mine.items() if row["status"] == "failed"},
        worked=worked,
        left=left,
        report=report,
        seconds=seconds,
        labels=[*prepared.run.labels, *by_other_code(prepared.run.study, mine.values())],
    )
