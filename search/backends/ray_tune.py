"""Tune over the cells of a study: a thin searcher, a thin scheduler.

Optuna says what runs next and what is stopped (`search.cells`); Tune says where. Tune pickles and copies its
searcher and scheduler, so both hold a key into a table of this module and never the session itself; its own
snapshot is disposable and goes to a folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cl_core.errors import ClSearchError, named_line
from search.backends.allocation import Plan, check_cluster
from search.backends.ray_address import cluster_address
from search.backends.ray_environment import ray_environment
from search.backends.ray_trainable import TaskTrainable
from search.jobs.dispatcher import Session
from search.jobs.interrupts import raise_interrupt, terminable
from search.storage.places import ray_temporary
from search.storage.scratch import scratch
from search.worker.worker import Answer

MAX_FAILURES = 2  # times a worker may die under one run before the run counts as failed

_SESSIONS: dict[str, Session] = {}


class CellSearcher(Searcher):
    """Hands out the next job of the session, one after another."""

    def __init__(self, key: str, concurrent: int) -> None:
        super().__init__(metric="value", mode="max")
        self._key = key
        self._concurrent = concurrent
        self._jobs: dict[str, str] = {}  # Tune's id of a live trial -> job

    def suggest(self, trial_id: str) -> Any:
        """The order of the next job; None when nothing can start now; FINISHED at the end."""
        session = _SESSIONS[self._key]
        if session.aborted or session.finished:
            return Searcher.FINISHED
        if len(self._jobs) >= self._concurrent:
            return None
        order = session.next()
        if order is None:
            return Searcher.FINISHED if session.finished else None
        self._jobs[trial_id] = order.job
        return order.to_dict()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass the last result of a job on, unless the scheduler ended the job or Tune gave it up."""
        job = self._jobs.pop(trial_id, None)
        session = _SESSIONS[self._key]
        if job is None or not session.is_open(job):
            return
        if error or not result or "status" not in result:
            session.lost(job, session.trouble.get(job, "the worker process died"))
        else:
            session.answer(Answer.from_dict(result))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the run's folder is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the run's folder is the truth."""


class CellScheduler(FIFOScheduler):
    """Tells the session each task's value and stops what the session says."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP or CONTINUE, at a task boundary."""
        stop = _SESSIONS[self._key].answer(Answer.from_dict(result))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note why; Tune calls this also for a job that it is about to try again."""
        _SESSIONS[self._key].trouble[trial.config["job"]] = _reason(trial)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the run's folder is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the run's folder is the truth."""


class Attempts(tune.Callback):
    """Counts the attempts of a job whose worker died."""

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune is about to start the job again."""
        trial.config["attempt"] = trial.config.get("attempt", 0) + 1


def run_tune(session: Session, plan: Plan) -> None:
    """Work the session off on Ray: the cluster of RAY_ADDRESS, one that runs already, or this machine alone.

    Raises BadRequest where the resources cannot be given. Leaves the environment, and a Ray that ran before,
    as they were.
    """
    with ray_environment(), _ray(plan), _scratch(session.folder) as place:
        key = str(id(session))
        _SESSIONS[key] = session
        try:
            tuner = tune.Tuner(
                tune.with_resources(TaskTrainable, {"cpu": plan.cpu, "gpu": plan.gpu}),
                tune_config=tune.TuneConfig(
                    search_alg=CellSearcher(key, plan.concurrent),
                    scheduler=CellScheduler(key),
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=str(place),
                    verbose=0,
                    callbacks=[Attempts()],
                    failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        except Exception:
            if session.aborted is None:
                raise
        finally:
            del _SESSIONS[key]
    if session.aborted is not None:
        raise session.aborted


def _reason(trial: Any) -> str:
    """One line on why a worker did not answer."""
    error = trial.get_pickled_error()
    if isinstance(error, ray.exceptions.RayTaskError):
        return named_line(getattr(error, "cause", None) or error)
    return f"the worker process died {MAX_FAILURES + 1} times (killed, or out of memory)"


@contextlib.contextmanager
def _ray(plan: Plan) -> Iterator[None]:
    """A Ray to work on; one that was started here is stopped here."""
    if ray.is_initialized():
        check_cluster(plan, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if cluster_address() is None:
        quiet |= {
            "address": "local",
            "num_cpus": plan.machine_cpus,
            "num_gpus": plan.machine_gpus,
            "include_dashboard": False,
            "_temp_dir": str(ray_temporary()),
        }
    try:
        _start(quiet)
        check_cluster(plan, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        raise_interrupt()
        with terminable():  # Ray has put a handler of its own in place, which ends the process at once
            yield
    finally:
        ray.shutdown()


def _start(settings: dict[str, Any]) -> None:
    """Start Ray, or join the cluster of RAY_ADDRESS. Raises ClSearchError, one line, where that fails."""
    try:
        ray.init(**settings)
    except Exception as error:
        where = settings.get("_temp_dir") or f"the cluster at {cluster_address()}"
        raise ClSearchError(f"Ray did not start ({named_line(error)}): look at {where}") from error


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Where Tune may keep its own files: on a cluster every node must see the place."""
    if not cluster_address():
        with scratch() as own:
            yield own
        return
    shared = folder / ".tune"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir()
    try:
        yield shared
    finally:
        shutil.rmtree(shared, ignore_errors=True)
