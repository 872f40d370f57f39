"""The check of a node before it trains a job: folders, code, device and images must be the driver's."""

from __future__ import annotations

from pathlib import Path

import torch

import search
from cl_core.errors import ClSearchError, named_line
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.training.checkpoint_keys import sources_digest
from cl_core.training.device import gpu_is_full
from cl_core.training.weights import file_digest
from search.remote.copies import remote_at
from search.remote.token import not_seen
from search.worker.job import Job, Workspace
from search.worker.runner import cached_data


def unseen_folder(space: Workspace) -> str | None:
    """Return why this node does not see the driver's folders, in one line. Nothing is written here."""
    if not space.token:  # the driver's own process
        return None
    folder = not_seen(space.token, space.folder, space.checkpoints)
    if folder is None:
        return None
    if (remote := remote_at(folder)) is not None:
        return f"it does not see the driver's folder {remote.url}: set the same AWS_ENDPOINT_URL there"
    return f"it does not see the driver's folder {folder}: mount that folder there under the same path"


def unfit_for(job: Job, space: Workspace) -> str | None:
    """Return why this node cannot train a job that the driver has checked, in one line; None if it can."""
    if not space.token:
        return None
    if space.sources not in ("", sources_digest()):
        return (
            f"its cl-search in {Path(search.__file__).parents[1]} is not the driver's: install the same there"
        )
    configuration = job.spec.configuration
    try:
        data = cached_data(configuration.data)
        METHODS[configuration.method]
        NETS[configuration.net or data.net]
        configuration.order(data.num_classes, data.class_names)  # may be a file, as may the weights
        if configuration.init:
            file_digest(configuration.init)
        if configuration.device == "cuda":
            torch.zeros(1, device="cuda")  # raises where there is none, and where it is broken
    except Exception as error:
        # A GPU full of other runs is no fault of its node: the job finds out, and gets a larger part.
        if not (job.shares_gpu and gpu_is_full(error)):
            return str(error) if isinstance(error, ClSearchError) else named_line(error)
    if job.fingerprint not in ("", data.fingerprint):
        place = configuration.data.root or "its usual place"
        return (
            f"its images of {configuration.data.name} in {place} ({data.fingerprint[:12]}) are not the "
            f"driver's ({job.fingerprint[:12]}): copy the driver's there"
        )
    return None
