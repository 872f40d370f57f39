"""Runs that train together: one process a GPU, in which each run has a thread.

They share one copy of the images, and their kernels run side by side, whereas processes take turns on a GPU.
Tune still gives each run its trainable, with its part of the GPU. The trainable hands the run to the process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.backends.orphan import end_with_raylet
from search.worker.job import Answer, Job, Workspace
from search.worker.worker import Worker

SHARED_DIED = "the process that it shared with other runs has died"
THREADS = 64  # runs of one process at the most
_PATIENCE = 60.0  # seconds for an answer of a process that is busy


class TogetherError(RuntimeError):
    """A shared process has died, which no run in it need have caused."""


@ray.remote(num_cpus=0)
class SharedProcess:
    """The runs of one GPU, or of one node without GPUs. Each is named by its job."""

    def __init__(self, gpu: str) -> None:
        if gpu:  # before torch looks for it
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        end_with_raylet()
        self._workers: dict[str, Worker] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def here(self) -> bool:
        """Answer."""
        return True

    def begin(self, job: Job, space: Workspace, attempt: int) -> None:
        """Take a job; what an earlier attempt still trains is waited for."""
        with self._turns[job.id]:
            if job.id in self._workers:
                self._workers.pop(job.id).close()
            self._workers[job.id] = Worker(job, space, attempt)

    def step(self, job: str) -> Answer:
        """Train the next task of a job."""
        with self._turns[job]:
            return self._workers[job].step()

    def close(self, job: str) -> None:
        """Free what a job holds."""
        with self._turns[job]:
            if job in self._workers:
                self._workers.pop(job).close()


@ray.remote(num_cpus=0)
class SharedProcesses:
    """The shared processes of one command, which end with it. The driver owns it, and it owns them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}
        self._turns: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

    def on(self, node: str, gpu: str) -> Any:
        """Return the process of a GPU of a node, a new one if it has died."""
        with self._turns[node, gpu]:  # runs begin at the same time
            known = self._known.get((node, gpu))
            if known is None or not _lives(known):
                place = NodeAffinitySchedulingStrategy(node, soft=False)
                process: Any = SharedProcess
                known = process.options(max_concurrency=THREADS, scheduling_strategy=place).remote(gpu)
                self._known[node, gpu] = known
            return known

    def known(self) -> list[Any]:
        """Return the processes so far, the last one of each GPU."""
        return [*self._known.values()]


class SharedWorker:
    """A job in a shared process, with the interface of `Worker`. Raises TogetherError if that dies."""

    def __init__(self, processes: str, node: str, job: Job, space: Workspace, attempt: int) -> None:
        gpu = ",".join(map(str, ray.get_gpu_ids()))
        self._job = job.id
        self._process: Any = ray.get(ray.get_actor(processes).on.remote(node, gpu))
        self._ask("begin", job, space, attempt)

    def step(self) -> Answer:
        """Train the next task there."""
        answer: Answer = self._ask("step", self._job)
        return answer

    def close(self) -> None:
        """Free what the job holds there."""
        with contextlib.suppress(TogetherError):
            self._ask("close", self._job)

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            return ray.get(getattr(self._process, method).remote(*given))
        except RayActorError as error:
            raise TogetherError(f"{SHARED_DIED} ({type(error).__name__})") from None


def close_shared(processes: str, job: str) -> None:
    """Free what an earlier attempt at a job holds in shared processes, once the task it trains has ended.

    Its trainable may have died alone. Then two attempts would train at once, and write the same files.
    """
    with contextlib.suppress(RayError, ValueError):  # the owner has gone, and all processes with it
        known: list[Any] = ray.get(ray.get_actor(processes).known.remote())
        for process in known:
            with contextlib.suppress(RayError):
                ray.get(process.close.remote(job))


def _lives(process: Any) -> bool:
    try:
        return bool(ray.get(process.here.remote(), timeout=_PATIENCE))
    except GetTimeoutError:
        return True
    except RayActorError:
        return False
