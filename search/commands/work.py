"""Carrying out jobs, with Ray or in this process, while the console shows the progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from cl_core.training.code import own_sources
from search.backends.local import run_local
from search.backends.ray_environment import ray_environment
from search.display.cells import meaning_of_best
from search.display.live import Live
from search.jobs.dispatcher import Dispatcher
from search.jobs.interrupts import drainable
from search.jobs.queue import JobQueue
from search.preparation.prepared import Prepared
from search.remote.copies import shown
from search.remote.working_copy import send_now
from search.worker.ending import announce_end, withdraw_end
from search.worker.job import Workspace
from spaces.resolved.study import ResolvedStudy
from spaces.study.budget import BudgetPart

Warn = Callable[[Sequence[str]], None]


@contextlib.contextmanager
def at_work(
    prepared: Prepared,
    jobs: JobQueue,
    what: str,
    local: bool,
    console: Console | None,
    warn: Warn,
    unit: str = "trials",
) -> Iterator[Callable[[], None]]:
    """Provide the function that carries out `jobs`, and show their progress on the console.

    `what` names the jobs there, `unit` what their cells count. `warn` gets lines that cannot wait.
    """
    send_now(prepared.folder)  # before any row: rows without their study could not be continued elsewhere
    study = prepared.study
    storage = study.study.storage
    space = Workspace(
        prepared.folder.absolute(),
        prepared.checkpoints.absolute(),
        storage.share,
        checkpoint_bytes=storage.checkpoint_bytes,
        reuse=study.study.search.reuse,
        every=storage.every_seconds,
    )
    dispatcher = Dispatcher(jobs, space, say=lambda line: warn([line]))
    with contextlib.ExitStack() as stack:
        stack.callback(dispatcher.close)
        if console is not None:
            _announce(console, prepared, what, local)
            split = "test rows" if study.study.protocol.opens_test else "validation rows"
            best = meaning_of_best(study.objective, split)
            live = Live(jobs.progress, prepared.folder, study.direction, console, unit, best)
            dispatcher.watch = stack.enter_context(live).update
        if local:
            yield partial(_drained, partial(run_local, dispatcher), study.study.budget, prepared.folder)
            return
        stack.enter_context(ray_environment())
        from search.backends.ray_tune import run_tune  # Ray reads the environment when it is imported

        work = partial(run_tune, dispatcher, prepared.allocation, _own_files(prepared.study))
        yield partial(_drained, work, study.study.budget, prepared.folder)


def _drained(work: Callable[[], None], budget: BudgetPart, folder: Path) -> None:
    """Carry out the jobs; a signal that asks for it, or `budget.until`, drains them."""
    withdraw_end(folder)  # that of a killed command
    try:
        with drainable(budget.grace_seconds, partial(announce_end, folder), budget.until_time):
            work()
    finally:
        withdraw_end(folder)


def _own_files(study: ResolvedStudy) -> dict[str, Path]:
    """Return the files of the user's own code, and of class orders, by their place in the working folder."""
    names = {study.study.tuning_data.name, study.study.judging_data.name}
    names |= {name for cell in study.cells for name in (cell.method, *cell.nets(study.data))}
    modules = {name.split(":")[0] for name in names if ":" in name}
    orders = {order for cell in study.cells for order, _ in study.runs(cell)}
    texts = {name: Path(name) for name in orders if ".." not in Path(name).parts and Path(name).is_file()}
    relative = {name: path for name, path in texts.items() if not path.is_absolute()}
    return {**own_sources(sorted(modules)), **relative}


def _announce(console: Console, prepared: Prepared, what: str, local: bool) -> None:
    planned = prepared.allocation
    way = "in this process" if local else f"{planned.concurrent} at a time, each with {planned.cpu:g} CPUs"
    if planned.gpu and not local:
        way += f" and {planned.gpu:g} GPUs"
    console.print(f"{what} in {shown(prepared.folder)}, {way}", highlight=False, soft_wrap=True)
