"""Remote folder: a run folder in an object store, with a copy on this machine in which commands work.

The copy is a run folder like any other. A hidden file in it names the store, so no command needs to know.
`fetch` brings what has changed in the store, `send` what has changed here. Checkpoints are not in this
exchange: see `search.remote.checkpoints`.

If a driver dies, the copy on its machine may be younger than the store. The lease tells whether another
machine has worked since: if not, this copy counts and is sent; if so, the store counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from analysis.lake.run_folder import (
    CHECKPOINTS,
    CONTROL,
    COPY_OF,
    JOURNAL,
    PACKING,
    PICTURES,
    PLAN,
    PROGRESS,
    REPORT,
    RUNNING,
    SQLITE_FILE,
    STUDY,
    TABLES_FOLDER,
    TRACKING,
    tables_of,
)
from cl_core.aside import aside
from search.lake.merging import settle_tables, while_gathering
from search.remote.object_store import ObjectStore, Stored, StoreError, at_once, object_store
from search.storage.mirror import copy_between_changes

_STUDIES = (JOURNAL, SQLITE_FILE)
# Also written by commands that hold no lease.
_FREE = (REPORT, CONTROL, PLAN, PACKING, "export/", f"{PICTURES}/", f"{TRACKING}/")
_RUNNING = f"{TABLES_FOLDER}/{RUNNING}/"
_RUNS = f"{TABLES_FOLDER}/runs/"
_CHANGES = 3  # times to list the store again where files go while they are fetched

State = tuple[int, int]  # bytes and time of a file


class RemoteFolder:
    """The copy of a folder of an object store. `line` is its line of copies, if it belongs to one."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.store: ObjectStore = object_store(url)
        self.guard: Callable[[], None] = lambda: None  # called before each request: it keeps the lease
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self.read_mark()

    def read_mark(self) -> None:
        """Read the hidden file again: another process may have worked with this copy."""
        plain = read_mark_of(self.folder)
        self.place = str(plain.get("place") or uuid.uuid4().hex)
        self.line: str | None = plain.get("line")
        # Name -> tag in the store, state here, when both were compared.
        self._known: dict[str, tuple[str, State]] = {
            name: (tag, (size, time)) for name, (tag, size, time) in (plain.get("files") or {}).items()
        }

    def fetch(self, young: bool) -> None:
        """Bring what has changed in the store. With `young`, a file that has changed here stays as it is.

        Without it, files that the store does not have are removed. Raises StoreError, OSError.
        """
        markers: set[str] = set()  # empty objects of folders, as web consoles make them: listed, never found
        for _ in range(_CHANGES):
            listed = [found for found in self.store.list() if is_exchanged(found.name)]
            there = {found.name: found for found in listed if found.size or found.name not in markers}
            wanted = [found for name, found in there.items() if self._is_old(name, found, young)]
            taken = list(at_once(self._take, wanted))
            if all(taken):
                break
            markers |= {found.name for found, here in zip(wanted, taken, strict=True) if not here}
        else:
            raise StoreError(f"{self.url} changes while it is read: give the command again")
        for name in set(self._names()) - set(there):
            if not young and not name.startswith(_FREE):
                (self.folder / name).unlink(missing_ok=True)
        with self._lock:
            self._known = {name: known for name, known in self._known.items() if name in there}
        self.write_mark()

    def take(self, names: Iterable[str]) -> list[str]:
        """Bring some files of the store; return those that are there. Raises StoreError, OSError."""
        wanted = list(names)
        return [name for name, found in zip(wanted, at_once(self._take_named, wanted), strict=True) if found]

    def give(self, names: Iterable[str]) -> None:
        """Send some files, as far as they are here. Raises StoreError."""
        list(at_once(self._give, names))

    def send(self) -> None:
        """Send what has changed here, and remove there what has gone. The caller holds the lease.

        The study comes first, rows that end a run after its other rows, and Optuna's studies after all rows:
        a command that continues from any moment finds no rows without their study and no trial without its
        rows. Raises StoreError, OSError.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._sending)
            copies = {
                name: stack.enter_context(_copied(self.folder / name))
                for name in _STUDIES
                if self._changed(name)
            }
            with (
                while_gathering(self.folder) if tables_of(self.folder).is_dir() else contextlib.nullcontext()
            ):
                if tables_of(self.folder).is_dir():
                    settle_tables(self.folder)
                names = self._names()
            lost = set(self._known) - set(names)  # another thread may have sent some since they were listed
            lost = {name for name in lost if not (self.folder / name).exists()}
            gone = sorted(name for name in lost if not name.startswith(_RUNNING))  # those are not sent here
            if STUDY in gone:
                raise StoreError(
                    f"the copy of {self.url} in {self.folder} was removed while a command worked"
                )
            self._compare([name for name in names if name not in self._known])
            changed = [
                name for name in names if not name.startswith((_RUNNING, *_STUDIES)) and self._changed(name)
            ]
            whole = [self._give(name) for name in changed if name == STUDY]
            others = [name for name in changed if name != STUDY and not name.startswith(_RUNS)]
            whole += at_once(self._give, others)
            whole += at_once(self._give, [name for name in changed if name.startswith(_RUNS)])
            for name, (copy, state) in copies.items():
                tag = self.store.put(name, copy.read_bytes(), self.guard)
                self._note(name, tag.etag, state)
            if all(whole):  # else a file was merged meanwhile: next time
                self.store.delete(gone, self.guard)
                with self._lock:
                    for name in lost:
                        del self._known[name]

    def send_free(self) -> None:
        """Send what a command without the lease may have written, such as a report. Raises StoreError."""
        names = [name for name in self._names() if name.startswith(_FREE) and self._changed(name)]
        if names:
            self.give(names)
            self.write_mark()

    def take_steering(self) -> None:
        """Bring the steering file if another machine has written it."""
        found = self.store.head(CONTROL)
        if found is not None and self._is_old(CONTROL, found, young=True):
            self._take(found)

    def write_mark(self) -> None:
        """Write the hidden file. Nothing is lost where it is older than the copy."""
        with self._lock:
            files = {name: [tag, *state] for name, (tag, state) in sorted(self._known.items())}
        plain = {"url": self.url, "place": self.place, "line": self.line, "files": files}
        with aside(self.folder / COPY_OF) as hidden:
            hidden.write_text(json.dumps(plain), encoding="utf-8")

    def _names(self) -> list[str]:
        """List the files here that are exchanged."""
        out = []
        for place, folders, files in os.walk(self.folder):
            inside = Path(place).relative_to(self.folder)
            folders[:] = [name for name in folders if is_exchanged(f"{(inside / name).as_posix()}/x")]
            paths = ((inside / name).as_posix() for name in files)
            out += [name for name in paths if is_exchanged(name) and not (self.folder / name).is_symlink()]
        return sorted(out)

    def _is_old(self, name: str, there: Stored, young: bool) -> bool:
        """Tell whether a file has to be fetched."""
        state, known = _state(self.folder / name), self._known.get(name)
        if state is None:
            return True
        if known is not None and known[0] == there.tag.etag and (young or known[1] == state):
            return False
        if _is_same(self.folder / name, there):
            self._note(name, there.tag.etag, state)
            return False
        return not young or (known is not None and known[1] == state)

    def _compare(self, names: list[str]) -> None:
        """Find out which files of tables the workers have sent already."""
        if any(name.startswith(f"{TABLES_FOLDER}/") and not name.startswith(_RUNNING) for name in names):
            there = {found.name: found for found in self.store.list(TABLES_FOLDER)}
            for name in names:
                state = _state(self.folder / name)
                if name in there and state is not None and _is_same(self.folder / name, there[name]):
                    self._note(name, there[name].tag.etag, state)

    def _changed(self, name: str) -> bool:
        state, known = _state(self.folder / name), self._known.get(name)
        return state is not None and (known is None or known[1] != state)

    def _take(self, wanted: Stored) -> bool:
        return self._take_named(wanted.name)

    def _take_named(self, name: str) -> bool:
        """Fetch a file; tell whether it is there."""
        self.guard()
        found = self.store.get(name)
        if found is None:
            return False
        with aside(self.folder / name, self.folder) as hidden:
            hidden.write_bytes(found[0])
        if (state := _state(self.folder / name)) is not None:
            self._note(name, found[1].tag.etag, state)
        return True

    def _give(self, name: str) -> bool:
        """Send a file; tell whether it is here."""
        path = self.folder / name
        try:
            state, content = _state(path), path.read_bytes()
        except FileNotFoundError:
            return False
        tag = self.store.put(name, content, self.guard)
        if state is not None and state == _state(path):
            self._note(name, tag.etag, state)
        return True

    def _note(self, name: str, tag: str, state: State) -> None:
        with self._lock:
            self._known[name] = tag, state


def is_exchanged(name: str) -> bool:
    """Tell whether a file of a folder lies in the store and in copies, by its name with slashes.

    Hidden files, locks, checkpoints and progress are not. No name leads out of the folder.
    """
    parts = name.split("/")
    if any(part in ("", "..") or (part[0] == "." and part != RUNNING) for part in parts):
        return False
    if CHECKPOINTS in parts or parts[0] == PROGRESS or "\\" in name or name.endswith(".lock"):
        return False
    return not name.startswith((f"{JOURNAL}.", f"{SQLITE_FILE}-", f"{SQLITE_FILE}."))


def read_mark_of(folder: Path) -> dict[str, Any]:
    """Return the hidden file of a copy; empty where a folder is none."""
    with contextlib.suppress(OSError, ValueError):
        plain = json.loads((folder / COPY_OF).read_text(encoding="utf-8"))
        if isinstance(plain, dict):
            return plain
    return {}


def _state(path: Path) -> State | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[tuple[Path, State]]:
    """Yield a copy of Optuna's file between two changes, with the state of the file before it."""
    state = _state(path) or (0, 0)
    hidden = path.with_name(f".{path.name}.sent{path.suffix}")
    try:
        copy_between_changes(path, hidden)
        yield hidden, state
    finally:
        hidden.unlink(missing_ok=True)


def _is_same(path: Path, there: Stored) -> bool:
    """Tell whether a file is that of the store, where the tag is the MD5 of its content, as on S3."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == there.size:
            content = path.read_bytes()
            return hashlib.md5(content, usedforsecurity=False).hexdigest() == there.tag.etag.strip('"')
    return False
