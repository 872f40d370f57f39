"""Copies of checkpoints in an object store. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS, bytes_below
from cl_core.aside import aside
from search.remote.copies import remote_at
from search.remote.object_store import ObjectStore

ENDING = ".safetensors"


class RemoteCopies:
    """The copies of a store's checkpoints in an object store, below `prefix`. Methods raise StoreError.

    With `alone` nobody else changes those that are asked for, so one listing saves the other looks.
    """

    def __init__(self, store: ObjectStore, prefix: str, alone: bool = False) -> None:
        self._store, self._prefix, self._alone = store, prefix, alone
        self._listed: set[str] | None = None

    def has(self, name: str) -> bool:
        """Tell whether there is a copy of a file."""
        return self._may_have(name) and self._store.head(self._prefix + name) is not None

    def fetch(self, path: Path) -> None:
        """Bring a file, if there is a copy of it."""
        found = self._store.get(self._prefix + path.name) if self._may_have(path.name) else None
        if found is not None:
            with aside(path) as hidden:
                hidden.write_bytes(found[0])

    def send(self, path: Path) -> None:
        """Send a file."""
        self._store.put(self._prefix + path.name, path.read_bytes())
        if self._listed is not None:
            self._listed.add(path.name)

    def remove(self, *names: str) -> None:
        """Remove the copies of files."""
        self._store.delete([self._prefix + name for name in names if self._may_have(name)])

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of the copies by the names of their files."""
        found = ((item.name.removeprefix(self._prefix), item.size) for item in self._store.list(self._prefix))
        return {name: size for name, size in found if "/" not in name and name.endswith(ENDING)}

    def _may_have(self, name: str) -> bool:
        if self._alone and self._listed is None:
            self._listed = set(self.sizes())
        return self._listed is None or name in self._listed


def copies_at(root: Path, *, alone: bool = False) -> RemoteCopies | None:
    """Return the copies of the checkpoints in a folder; None for a folder of this machine alone."""
    remote = remote_at(root)
    if remote is None:
        return None
    inside = root.relative_to(remote.folder).as_posix()
    return RemoteCopies(remote.store, "" if inside == "." else f"{inside}/", alone)


def checkpoint_bytes(folder: Path) -> int:
    """Return the bytes of a run folder's checkpoints; of a folder in an object store, those there."""
    remote = remote_at(folder)
    if remote is None:
        return bytes_below(folder / CHECKPOINTS)
    return sum(found.size for found in remote.store.list(CHECKPOINTS))
