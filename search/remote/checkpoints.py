"""Checkpoints in an object store, with a cache on each machine.

A checkpoint is sent when it is saved, and fetched where one is needed that this machine does not have.
"""

from __future__ import annotations

from pathlib import Path

from cl_core.training.checkpoints import CheckpointStore
from search.remote.checkpoint_copies import copies_at


def checkpoint_store(root: Path, most_bytes: int | None = None, *, alone: bool = False) -> CheckpointStore:
    """Return the store of checkpoints in a folder; in a copy of an object store, that is where they are sent.

    With `alone` no other process works with the checkpoints that are asked for.
    """
    return CheckpointStore(root, most_bytes, copies_at(root, alone=alone))
