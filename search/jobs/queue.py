"""What a command hands out, one job after another, and what it is told: the contract between `Session` and
whoever says what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cl_core.errors import ClSearchError
from search.worker.runner import base_key, base_ready
from spaces.resolved.run_spec import RunSpec

if TYPE_CHECKING:
    from cl_core.images.dataset import Data
    from search.jobs.progress import CellProgress


@dataclass(frozen=True)
class Job:
    """Something to carry out: a run ("run"), or a base checkpoint that runs wait for ("base", of `spec`'s
    configuration)."""

    kind: str
    id: str
    spec: RunSpec


class Jobs(Protocol):
    """The jobs of one command: a search (`search.cells`), or an evaluation (`evaluation_queue`)."""

    def next(self) -> Job | None:
        """The next job, or None when nothing can start now."""

    def report(self, trial: str, task: int, increments: float | None) -> bool:
        """Take in where a run stands after a task; True when it should be stopped there."""

    def done(
        self,
        job: str,
        status: str,
        values: Sequence[float | None] = (),
        increments: float | None = None,
        error: str | None = None,
    ) -> None:
        """A job has ended: completed, stopped or failed. One that is not under way is ignored."""

    def hand_back(self, job: str) -> None:
        """A run goes no further now; the next command takes it up at its last boundary."""

    def progress(self) -> list[CellProgress]:
        """Where every cell stands."""

    @property
    def finished(self) -> bool:
        """Whether nothing is under way and nothing can start any more."""

    @property
    def halted(self) -> bool:
        """Whether running tasks end and nothing else starts."""

    @property
    def left(self) -> str | None:
        """Why there is something left to do though this is `finished`; None where all is done."""


class Bases:
    """Which base checkpoints stand, and which are under way: runs that share one wait until it is trained.

    With `share` off nobody waits: whoever comes first trains it. `data` gives the images of a run.
    """

    def __init__(self, checkpoints: Path, data: Callable[[RunSpec], Data], share: bool = True) -> None:
        self._checkpoints, self._data, self._share = checkpoints, data, share
        self._keys: dict[str, str | None] = {}  # trial -> key of its base checkpoint
        self._ready: set[str | None] = {None}  # keys that nobody has to wait for (any more)
        self._training: dict[str, str] = {}  # id of a base job under way -> key

    @property
    def under_way(self) -> bool:
        """Whether a base checkpoint is being trained."""
        return bool(self._training)

    def awaited(self, spec: RunSpec) -> str | None:
        """The id of the base job that a run has to wait for; None where it may start."""
        key = self._key(spec)
        return None if key in self._ready else f"base/{key}"

    def begin(self, job: str) -> bool:
        """Hand a base job out; False while it is under way already."""
        if job in self._training:
            return False
        self._training[job] = job.removeprefix("base/")
        return True

    def end(self, job: str) -> bool:
        """A job has ended; whether it was a base job.

        Failed or not, nobody waits any longer: a run whose base checkpoint is missing trains it, or fails by
        itself.
        """
        if job not in self._training:
            return False
        self._ready.add(self._training.pop(job))
        return True

    def _key(self, spec: RunSpec) -> str | None:
        """The key of the base checkpoint of a run; None where there is nothing to wait for."""
        if not self._share:
            return None
        if spec.run not in self._keys:
            try:
                data = self._data(spec)
                key = base_key(spec.configuration, data)
                if key not in self._ready and base_ready(spec.configuration, data, self._checkpoints):
                    self._ready.add(key)
                self._keys[spec.run] = key
            except ClSearchError:
                self._keys[spec.run] = None  # the run fails by itself and says why
        return self._keys[spec.run]
