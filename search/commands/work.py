"""Carrying out jobs, with Ray or in this process, while the console shows the progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from search.backends.local import run_local
from search.backends.ray_environment import ray_environment
from search.display.cells import meaning_of_best
from search.display.live import Live
from search.jobs.dispatcher import Session
from search.jobs.queue import Jobs
from search.preparation.prepared import Prepared

Warn = Callable[[Sequence[str]], None]


def work_off(
    prepared: Prepared,
    jobs: Jobs,
    what: str,
    local: bool,
    console: Console | None,
    unit: str = "trials",
) -> None:
    """Carry out `jobs`; `what` names them on the console, `unit` what its cells count."""
    if console is None:
        _carry_out(prepared, jobs, local, lambda: None)
        return
    _announce(console, prepared, what, local)
    study = prepared.study
    split = "test rows" if study.study.protocol.label else "validation rows"
    best = meaning_of_best(study.objective, split)
    with Live(jobs.progress, prepared.folder, study.direction, console, unit, best) as live:
        _carry_out(prepared, jobs, local, live.update)


def _carry_out(prepared: Prepared, jobs: Jobs, local: bool, watch: Callable[[], None]) -> None:
    study = prepared.study
    share = study.study.storage.share
    session = Session(jobs, study.methods, prepared.folder, prepared.checkpoints, study.threads, share, watch)
    if local:
        run_local(session)
        return
    with ray_environment():
        from search.backends.ray_tune import run_tune  # Ray reads the environment when it is imported

        run_tune(session, prepared.plan)


def _announce(console: Console, prepared: Prepared, what: str, local: bool) -> None:
    planned = prepared.plan
    way = "in this process" if local else f"{planned.concurrent} at a time, each with {planned.cpu:g} CPUs"
    if planned.gpu and not local:
        way += f" and {planned.gpu:g} GPUs"
    console.print(f"{what} in {prepared.folder}, {way}", highlight=False, soft_wrap=True)
