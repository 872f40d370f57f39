"""Token: a file that proves to the driver that another machine sees its folders, not folders of that name."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from search.remote.copies import remote_at
from search.remote.object_store import StoreError

_PREFIX = ".driver-"


@contextlib.contextmanager
def token(folder: Path, *others: Path) -> Iterator[str]:
    """Write a file of a new name into the run folder and into each other folder; yield its name.

    The files are removed at the end. Those of a killed command are removed by the next one on the run folder,
    whose lock the caller holds. A new name each time, because network file systems remember old names.
    """
    places = list(dict.fromkeys([folder, *others]))
    for stale in [path.name for path in folder.glob(f"{_PREFIX}*")]:
        _remove(places, stale)
    name = f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
            if (remote := remote_at(place)) is not None:
                remote.store.put(name, b"")
        yield name
    finally:
        _remove(places, name)


def not_seen(name: str, *folders: Path) -> Path | None:
    """Return the first folder that does not hold the token here; None if all do. Nothing is made."""
    return next((folder for folder in folders if not _is_seen(folder, name)), None)


def _is_seen(folder: Path, name: str) -> bool:
    """Tell whether a folder holds the token. Raises StoreError for one in an object store that is far."""
    if (folder / name).exists():
        return True
    remote = remote_at(folder)
    return remote is not None and remote.store.head(name) is not None


def _remove(places: list[Path], name: str) -> None:
    for place in places:
        with contextlib.suppress(OSError, StoreError):
            (place / name).unlink(missing_ok=True)
            if (remote := remote_at(place)) is not None:
                remote.store.delete([name])
