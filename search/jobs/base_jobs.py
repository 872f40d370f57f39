"""Base checkpoints as jobs: runs that share one wait until it is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cl_core.errors import ClSearchError
from cl_core.images.dataset import Data
from search.worker.base_checkpoint import base_key, base_ready
from search.worker.job import Job
from spaces.resolved.run_spec import RunSpec


class BaseJobs:
    """The base checkpoints that exist and those that are being trained.

    With `share` off no run waits: the first that needs a checkpoint trains it. `data` gives the images of a
    run.
    """

    def __init__(self, checkpoints: Path, data: Callable[[RunSpec], Data], share: bool = True) -> None:
        self._checkpoints, self._data, self._share = checkpoints, data, share
        self._keys: dict[str, str | None] = {}  # run -> key of its base checkpoint
        self._ready: set[str | None] = {None}  # keys that no run has to wait for
        self._training: dict[str, str | None] = {}  # id of a running base job -> key

    @property
    def running(self) -> bool:
        """Tell whether a base checkpoint is being trained."""
        return bool(self._training)

    def job(self, spec: RunSpec) -> Job | None:
        """Return the job of a run, or that of the base checkpoint it needs; None while that is trained."""
        key = self._key(spec)
        if key in self._ready:
            return Job("run", spec.run, spec, self._fingerprint(spec))
        base = f"base/{key}"
        if base in self._training:
            return None
        self._training[base] = key
        return Job("base", base, spec, self._fingerprint(spec))

    def end(self, job: str) -> bool:
        """End a job if it is a base job, and tell whether it is one.

        No run waits any longer, even after a failure: a run without its base checkpoint trains it, or fails
        by itself.
        """
        if job not in self._training:
            return False
        self._ready.add(self._training.pop(job))
        return True

    def _fingerprint(self, spec: RunSpec) -> str:
        try:
            return self._data(spec).fingerprint
        except ClSearchError:
            return ""

    def _key(self, spec: RunSpec) -> str | None:
        """Return the key of a run's base checkpoint; None if there is nothing to wait for."""
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
