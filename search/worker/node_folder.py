"""The folders of a worker on another machine than the driver, where they are in an object store.

Its run folder is a copy with the files of the runs that train there; its checkpoints are a cache.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from analysis.lake.run_folder import CHECKPOINTS, log_file
from search.lake.writer import drop_run
from search.remote.copies import copy_of, remote_at
from search.remote.object_store import StoreError
from search.remote.run_files import fetch_run, fetch_schemas, send_log
from search.remote.working_copy import send_now
from search.worker.job import Job, Workspace

_NODE = "node"  # apart from the copy of a driver on the same machine


def at_stores(space: Workspace) -> Workspace:
    """Return the driver's workspace with the URLs of its folders, where workers may be on other machines.

    They find there what the driver has written so far. Raises StoreError.
    """
    send_now(space.folder)
    folder, checkpoints = remote_at(space.folder), remote_at(space.checkpoints)
    return replace(
        space,
        folder_url=folder.url if folder is not None else "",
        checkpoints_url=checkpoints.url if checkpoints is not None and checkpoints is not folder else "",
    )


def on_node(space: Workspace) -> Workspace:
    """Return the workspace as this machine has it. Raises ClSearchError."""
    if space.folder_url:
        folder = copy_of(space.folder_url, _NODE).folder
        inside = space.checkpoints.is_relative_to(space.folder)
        space = replace(
            space, folder=folder, checkpoints=folder / CHECKPOINTS if inside else space.checkpoints
        )
    if space.checkpoints_url:
        space = replace(space, checkpoints=copy_of(space.checkpoints_url, _NODE).folder)
    return space


def take_up(job: Job, space: Workspace) -> None:
    """Bring what a worker needs of the run folder. Raises StoreError."""
    if space.folder_url:
        fetch_schemas(space.folder)
        fetch_run(space.folder, job.id)


def leave(job: Job, space: Workspace) -> None:
    """Send the log of a job, and remove its files from the copy of this machine."""
    if space.folder_url:
        send_output(job, space)
        drop_run(space.folder, job.id)
        with contextlib.suppress(OSError):
            log_file(space.folder, job.id).unlink(missing_ok=True)


def send_output(job: Job, space: Workspace) -> None:
    """Send the log of a job; a log that cannot be sent is no reason for a run to fail."""
    if space.folder_url:
        with contextlib.suppress(StoreError):
            send_log(space.folder, job.id)


def fetch_rows(job: Job, space: Workspace) -> None:
    """Bring the driver the rows and the log of a run that a worker has sent. Raises StoreError."""
    if space.folder_url and job.kind == "run":
        fetch_run(space.folder, job.id)
