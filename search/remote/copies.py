"""The copies on this machine: that of a URL, that in which a folder lies, and their names for people."""

from __future__ import annotations

from pathlib import Path

from analysis.lake.run_folder import COPY_OF
from cl_core.errors import BadRequest
from cl_core.hparams import digest
from search.remote.object_store import checked_url
from search.remote.remote_folder import RemoteFolder, read_mark_of
from search.storage.file_systems import own_place


def copy_of(url: object, node: str = "") -> RemoteFolder:
    """Return the copy of a URL's folder on this machine, or on one of its nodes. Raises BadRequest."""
    checked = checked_url(url)
    own = own_place()
    if own is None:
        raise BadRequest(
            f"{checked} needs a folder for its copy on this machine's disk: set XDG_STATE_HOME to one"
        )
    name = checked.rpartition("/")[2]
    folder = own / "stores" / f"{name}-{digest([checked, node], 12)}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (found := _open(folder)) is not None:
        return found
    made = RemoteFolder(folder, checked)
    made.write_mark()
    return made


def remote_at(path: Path) -> RemoteFolder | None:
    """Return the copy in which a folder lies, or which it is; None for a folder of this machine alone."""
    for place in (path, *list(path.parents)[:2]):  # a store of checkpoints lies two below at most
        if (found := _open(place)) is not None:
            return found
    return None


def shown(folder: Path) -> str:
    """Return the name of a run folder for people: its URL, or its path."""
    found = remote_at(folder)
    return str(folder) if found is None or found.folder != folder else found.url


def with_urls(text: str) -> str:
    """Return a text for people, with the URL of a folder in place of the path of its copy."""
    for folder, remote in _OPEN.items():
        text = text.replace(str(folder), remote.url)
    return text


_OPEN: dict[Path, RemoteFolder] = {}  # one object a copy and process, since it knows what it has sent


def _open(folder: Path) -> RemoteFolder | None:
    if folder in _OPEN and (folder / COPY_OF).exists():
        return _OPEN[folder]
    url = read_mark_of(folder).get("url")
    if url is None:
        return None
    return _OPEN.setdefault(folder, RemoteFolder(folder, url))
