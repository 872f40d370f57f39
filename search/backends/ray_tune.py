"""Ray Tune over the jobs of a study: a thin searcher and a thin scheduler.

The queue decides what runs next and what is stopped (`search.cells`), Tune decides where. Tune pickles and
copies its searcher and scheduler. So both hold a key into a table of this module, and never the dispatcher.
Tune's own snapshot is disposable: its folder is removed at the end.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cl_core.errors import ClSearchError, named_line
from cl_core.training.checkpoint_keys import sources_digest
from search.backends.allocation import Allocation, check_cluster
from search.backends.cluster_nodes import joined_nodes
from search.backends.guest_node import guest_node
from search.backends.head_watch import head_watched
from search.backends.ray_address import bootstrap_address, cluster_address
from search.backends.ray_environment import ray_environment
from search.backends.ray_shared import SHARED_DIED, SharedProcesses
from search.backends.ray_trainable import TaskTrainable
from search.backends.shipping import runtime_environment
from search.backends.tune_credentials import credentials_kept
from search.jobs.dispatcher import Dispatcher
from search.jobs.interrupts import raise_interrupt, terminable
from search.remote.token import token
from search.storage.places import ray_temporary
from search.storage.scratch import scratch
from search.worker.node_folder import at_stores

NODE_PATIENCE = 600.0  # seconds a cluster has to bring a node
NODE_DEATHS = 20  # nodes that may die under one run, besides
# Ray says no more: of a node, and of the way to it. A shared process may die through another run.
_LOST_NODE = ("its node has died", "is unavailable:", SHARED_DIED)
MAX_FAILURES = 2  # times a worker may die under one run before the run counts as failed

_DISPATCHERS: dict[str, Dispatcher] = {}


@contextlib.contextmanager
def shared(dispatcher: Dispatcher) -> Iterator[str]:
    """Keep a dispatcher in this process; yield the key by which the searcher and the scheduler find it."""
    key = str(id(dispatcher))
    _DISPATCHERS[key] = dispatcher
    try:
        yield key
    finally:
        del _DISPATCHERS[key]


class JobSearcher(Searcher):
    """Hands out the dispatcher's jobs, one after another."""

    def __init__(self, key: str, allocation: Allocation, processes: str | None = None) -> None:
        super().__init__(metric="value", mode="max")
        self._key, self._allocation, self._processes = key, allocation, processes
        self._jobs: dict[str, str] = {}  # Tune's id of a live trial -> job

    def suggest(self, trial_id: str) -> Any:
        """Return the next job as Tune's config; None if nothing can start now; FINISHED at the end."""
        dispatcher = _DISPATCHERS[self._key]
        if dispatcher.aborted or dispatcher.finished:
            return Searcher.FINISHED
        if self._allocation.limit is not None and len(self._jobs) >= self._allocation.limit:
            return None
        job = dispatcher.next()
        if job is None:
            return Searcher.FINISHED if dispatcher.finished else None
        self._jobs[trial_id] = job.id
        nodes = dispatcher.nodes.avoided(job.id)
        return {
            "job": job,
            "space": dispatcher.space,
            "attempt": 0,
            "bundle": replace(self._allocation, gpu=job.gpu).bundle,
            "labels": dict(self._allocation.labels),
            "avoid": nodes,
            "processes": self._processes,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on the last answer of a job, unless the scheduler ended the job or Tune gave it up."""
        job = self._jobs.pop(trial_id, None)
        dispatcher = _DISPATCHERS[self._key]
        if job is None or not dispatcher.is_open(job):
            return
        if error or not result or "answer" not in result:
            dispatcher.lost(job, dispatcher.trouble.get(job, "the worker process died"))
        else:
            dispatcher.answer(result["answer"])

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder has the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the run folder has the state."""


class JobScheduler(FIFOScheduler):
    """Passes on the answer after each task, and stops a job if the dispatcher says so."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return STOP or CONTINUE after a task."""
        stop = _DISPATCHERS[self._key].answer(result["answer"])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note the reason. Tune calls this also for a job that it will try again."""
        _DISPATCHERS[self._key].trouble[trial.config["job"].id] = _reason(trial)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the run folder has the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the run folder has the state."""


class NodesLeft(tune.Callback):
    """Looks at the nodes while jobs wait: Tune itself waits for ever for a cluster that is gone."""

    def __init__(self, key: str) -> None:
        self._key = key

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the dispatcher look. Raises NoNodeLeft."""
        _DISPATCHERS[self._key].look()


class Attempts(tune.Callback):
    """Counts the attempts of a job after its worker died."""

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count one attempt more: Tune is about to start the job again.

        The death of a node, such as a preempted one, is no failure of the run. Nor is a worker that does not
        answer, and may live: its network fails, or its machine is busy.
        """
        trial.config["attempt"] += 1
        if _node_lost(trial.error_file) and trial.max_failures < MAX_FAILURES + NODE_DEATHS:
            trial.max_failures += 1


def run_tune(
    dispatcher: Dispatcher, allocation: Allocation, own_files: Mapping[str, Path] | None = None
) -> None:
    """Carry out all jobs on Ray: the cluster of RAY_ADDRESS, a Ray that runs already, or this machine alone.

    The workers of a cluster get `own_files`, by their place below the folder in which they start. Raises
    BadRequest if the resources cannot be given. Leaves the environment, and a Ray that ran before, as
    they were.
    """
    if ray.is_initialized() or cluster_address() is not None:  # workers may be on other machines
        dispatcher.space = at_stores(dispatcher.space)
    with (
        ray_environment(),
        credentials_kept(),
        _ray(allocation, own_files or {}) as patience,
        head_watched(ray.get_runtime_context().gcs_address),
        scratch() as place,
        token(dispatcher.space.folder, dispatcher.space.checkpoints) as name,
        shared(dispatcher) as key,
        _processes(allocation) as processes,
    ):
        dispatcher.space = replace(dispatcher.space, token=name, sources=sources_digest())
        dispatcher.nodes.alive = partial(_holders, allocation)
        dispatcher.gpu = allocation.gpu
        dispatcher.nodes.patience, dispatcher.nodes.needs = patience, allocation.needs
        dispatcher.nodes.begin()
        try:
            tuner = tune.Tuner(
                TaskTrainable,
                tune_config=tune.TuneConfig(
                    search_alg=JobSearcher(key, allocation, processes),
                    scheduler=JobScheduler(key),
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=str(place),
                    verbose=0,
                    callbacks=[Attempts(), NodesLeft(key)],
                    failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        except Exception:
            if dispatcher.aborted is None:
                raise
    if dispatcher.aborted is not None:
        raise dispatcher.aborted


@contextlib.contextmanager
def _processes(allocation: Allocation) -> Iterator[str | None]:
    """Provide the name under which trainables find the processes that runs share; None: each has its own."""
    if not allocation.together:
        yield None
        return
    name = f"cl-search shared processes {secrets.token_hex(8)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    shared_processes: Any = SharedProcesses
    owner = shared_processes.options(name=name, scheduling_strategy=here, max_concurrency=8).remote()
    try:
        yield name
    finally:
        ray.kill(owner)  # with all that it owns


def _node_lost(path: str | None) -> bool:
    """Tell whether a worker was lost with its node, or out of reach, by the last error in Tune's file."""
    try:
        errors = Path(path or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    last = errors.rsplit("Failure # ", 1)[-1]
    return any(text in last for text in _LOST_NODE)


def _holders(allocation: Allocation) -> list[str]:
    """Return the ids of the nodes that can hold one run."""
    return [node.id for node in joined_nodes() if allocation.fit(node)]


def _reason(trial: Any) -> str:
    """Return the reason why a worker did not answer, in one line."""
    error = trial.get_pickled_error()
    if isinstance(error, ray.exceptions.RayTaskError):
        return named_line(getattr(error, "cause", None) or error)
    return f"the worker process died {MAX_FAILURES + 1} times (killed, or out of memory)"


@contextlib.contextmanager
def _ray(allocation: Allocation, own_files: Mapping[str, Path]) -> Iterator[float]:
    """Provide a Ray to work on; yield the seconds it has to bring a node where none is left.

    If it is started here, it is stopped here.
    """
    if ray.is_initialized():
        check_cluster(allocation, joined_nodes())
        yield NODE_PATIENCE
        return
    named = cluster_address()
    with contextlib.ExitStack() as stack:
        if named is not None:
            stack.enter_context(guest_node(named))
        stack.callback(ray.shutdown)
        with _settings(allocation, own_files) as settings:
            _start(settings)
        check_cluster(allocation, joined_nodes())
        raise_interrupt()
        with terminable():  # Ray has put a handler of its own in place, which ends the process at once
            yield NODE_PATIENCE if named is not None else 0.0


@contextlib.contextmanager
def _settings(allocation: Allocation, own_files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Provide the arguments with which Ray starts here, or joins a cluster."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if (named := cluster_address()) is not None:
        with runtime_environment(own_files, allocation.threads) as shipped:
            yield {**quiet, "runtime_env": shipped, "address": bootstrap_address(named)}
        return
    yield {
        **quiet,
        "address": "local",
        "num_cpus": allocation.machine_cpus,
        "num_gpus": allocation.machine_gpus,
        "include_dashboard": False,
        "_temp_dir": str(ray_temporary()),
    }


def _start(settings: dict[str, Any]) -> None:
    """Start Ray, or join the cluster of RAY_ADDRESS. Raises ClSearchError if that fails."""
    try:
        ray.init(**settings)
    except Exception as error:
        where = settings.get("_temp_dir") or f"the cluster at {cluster_address()}"
        raise ClSearchError(f"Ray did not start ({named_line(error)}): look at {where}") from error
