"""A job for a worker, and its answer after each step: plain values that Ray can send to another machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spaces.resolved.run_spec import RunSpec

NO_STORAGE = "no storage"  # the status of a job that had no place to write
UNFIT_NODE = "unfit node"  # the status of a job that another node may train
NO_MEMORY = "no memory"  # the status of a job that found a GPU too small beside other jobs


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: its id for Ray, and its name for people."""

    id: str
    name: str


@dataclass(frozen=True)
class Job:
    """A run ("run"), or a base checkpoint that several runs wait for ("base", of the run `spec`).

    `fingerprint` is that of the driver's images, where it knows it. `gpu` is the part of a GPU that the job
    gets from Ray; 0 without Ray or on a CPU.
    """

    kind: str
    id: str
    spec: RunSpec
    fingerprint: str = ""
    gpu: float = 0.0

    @property
    def shares_gpu(self) -> bool:
        """Tell whether other jobs may use the memory of the same GPU."""
        return 0.0 < self.gpu < 1.0


@dataclass(frozen=True)
class Workspace:
    """The folders of a worker, as absolute paths: the run folder and the store of checkpoints.

    With `share` the first task comes from the store, and goes there; the store holds `checkpoint_bytes` at
    most. With `reuse` later tasks do the same, in a store of the run folder. `every` is the time in seconds
    between two saves inside a task; None: there are none. `token` names the file that both
    folders have while workers on other nodes may work there (`search.remote.token`). `sources` is the digest
    of the driver's trainer. The URLs are set where a folder is in an object store, and workers may be on
    other machines, where its copy has another path.
    """

    folder: Path
    checkpoints: Path
    share: bool = True
    token: str = ""
    sources: str = ""
    checkpoint_bytes: int | None = None
    folder_url: str = ""
    checkpoints_url: str = ""
    reuse: bool = False
    every: float | None = None


@dataclass(frozen=True)
class Answer:
    """The state of a job after a step. `task` is the last finished one, -1 before the first.

    `receipt` has the rows and the checksum of each table's file, as the worker wrote it on `node`.
    """

    job: str
    task: int
    tasks: int
    values: Sequence[float | None]  # the objectives over the tasks so far
    status: str  # running | completed | stopped | failed | no storage | unfit node | no memory
    error: str | None = None  # one line
    increments: float | None = None  # the accuracy over the increments so far, which stoppers compare
    receipt: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    node: Node | None = None

    @property
    def done(self) -> bool:
        """Tell whether the job has ended."""
        return self.status != "running"

    @property
    def value(self) -> float | None:
        """The first objective; None for a base checkpoint and before the first task."""
        return next(iter(self.values), None)

    def line(self, objective: str) -> str:
        """Return the answer in one line; `objective` names the first value."""
        value = "" if self.value is None else f", {objective.replace('_', ' ')} {self.value:.4f}"
        return f"task {self.task + 1} of {self.tasks}: {self.status}{value}"
