"""Base checkpoints: the first task that several runs share, trained once."""

from __future__ import annotations

from pathlib import Path

from cl_core.errors import BadRequest
from cl_core.hparams import digest
from cl_core.images.dataset import Data
from cl_core.training.checkpoint_keys import base_checkpoint_key, base_identity, numerics_digest
from cl_core.training.checkpoints import ResumeCheckpoints
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training
from search.remote.checkpoints import checkpoint_store
from search.worker.runner import cached_data


def base_key(configuration: Configuration, data: Data) -> str:
    """Return a digest that is equal for runs with the same first task, on any machine."""
    return digest(base_identity(configuration, data))


def base_ready(configuration: Configuration, data: Data, checkpoints: Path) -> bool:
    """Tell whether the base checkpoint of a run is in the store, for a machine like this one."""
    try:
        numerics = numerics_digest(configuration)
    except BadRequest:  # a driver without the workers' device cannot know
        return False
    return base_checkpoint_key(configuration, data, numerics) in checkpoint_store(checkpoints)


def train_base(
    configuration: Configuration,
    checkpoints: Path,
    data: Data | None = None,
    most_bytes: int | None = None,
    resume: ResumeCheckpoints | None = None,
) -> str:
    """Train and save the base checkpoint of a run if it is missing; return its key.

    With `resume` its training continues inside. Raises ClSearchError, TaskLeft.
    """
    data = data if data is not None else cached_data(configuration.data)
    training = Training(configuration, data, checkpoint_store(checkpoints, most_bytes), resume)
    training.train_base()
    return training.base_key()
