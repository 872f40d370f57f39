"""Work in a run folder: one command at a time, on whichever machine.

A folder of this machine has its lock. One in an object store has the lease as well, and a thread that gives
signs of life and sends what has changed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from cl_core.errors import BadRequest
from search.remote.copies import copy_of, remote_at
from search.remote.lease import LEASE, RENEWED, Lease, is_held, read_lease
from search.remote.object_store import FIRST, REPEATED, ObjectStore, StoreError
from search.remote.remote_folder import RemoteFolder
from search.storage.lock import held, is_active
from search.storage.places import is_url
from search.storage.trouble import storage_trouble

SENT_EVERY = 5.0  # seconds between two looks for changes


def run_folder(given: str | Path) -> Path:
    """Return a run folder's path; of a URL, that of its copy here, with what has changed in the store.

    A copy in which a command of this machine works is up to date. Raises BadRequest, StoreError.
    """
    if not is_url(given):
        return Path(given).expanduser()
    copy = copy_of(given)
    ObjectStore(copy.url, min(FIRST, REPEATED)).head(LEASE)  # a person waits: no long patience
    with _while_fetching(copy.folder):
        if not is_active(copy.folder):
            copy.read_mark()
            found = read_lease(copy.store)
            copy.fetch(young=found is not None and found[0].line == copy.line)
    return copy.folder


def file_of(url: str) -> Path:
    """Return the path of a copy here of a file in an object store, such as a study file.

    In a run folder it is that of the folder's copy; elsewhere nothing beside the file is fetched. Raises
    BadRequest, StoreError.
    """
    place, _, name = url.rpartition("/")
    copy = copy_of(place)
    if ObjectStore(copy.url, min(FIRST, REPEATED)).head(LEASE) is not None:
        return run_folder(place) / name
    with _while_fetching(copy.folder):
        if not copy.take([name]):
            (copy.folder / name).unlink(missing_ok=True)
    return copy.folder / name


def checkpoint_folder(given: str | Path) -> Path:
    """Return the folder of a store of checkpoints; of a URL, that of its cache here. Raises BadRequest."""
    return copy_of(given).folder if is_url(given) else Path(given).expanduser()


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold a run folder while the block changes it. Raises BadRequest if another command works in it.

    Of a folder in an object store, what the block changed is there at the end. Raises StoreError if the
    store does not take it: the copy keeps it, and the next command on this machine sends it.
    """
    remote = remote_at(folder)
    if remote is None or remote.folder != folder:
        with held(folder):
            yield
        return
    if is_active(folder):
        raise BadRequest(
            f"another run is working in {remote.url} on this machine: wait for it or end it, or use another "
            "--out"
        )
    with held(folder):
        sender = _Sender(remote)
        with _while_fetching(folder):  # a command that reads may have begun to change the copy
            sender.begin()
        _AT_WORK[folder] = sender
        try:
            yield
        finally:
            del _AT_WORK[folder]
            sender.end()


def send_now(folder: Path) -> None:
    """Send what the command that works in a folder has changed so far. Raises StoreError."""
    if folder in _AT_WORK and (remote := remote_at(folder)) is not None:
        remote.send()


def send_free(folder: Path) -> None:
    """Send what a command without the lease wrote in a run folder, such as a report. Raises StoreError."""
    if (remote := remote_at(folder)) is not None:
        remote.send_free()


def folder_trouble(folder: Path) -> str | None:
    """Return why a run folder takes nothing more, in one line; None if it does."""
    remote = remote_at(folder)
    if (trouble := storage_trouble(folder)) is not None:  # texts for people have a URL in place of a copy
        return trouble if remote is None else f"{trouble}, for its copy on this machine in {folder.parent}"
    try:
        if remote is not None:
            remote.store.head(LEASE)
    except StoreError as error:
        return str(error)
    return None


@contextlib.contextmanager
def sole_copy(folder: Path) -> Iterator[None]:
    """Work alone in a folder of an object store; a folder of this machine may be worked in meanwhile."""
    with working_in(folder) if remote_at(folder) is not None else contextlib.nullcontext():
        yield


def check_sent(folder: Path) -> None:
    """Raise the error of the thread that sends a folder's changes, if there is one."""
    if (sender := _AT_WORK.get(folder)) is not None and sender.error is not None:
        raise sender.error


def is_worked_in(folder: Path) -> bool:
    """Tell whether a command works in a run folder now, on this or on another machine."""
    if is_active(folder):
        return True
    remote = remote_at(folder)
    return remote is not None and remote.folder == folder and is_held(remote.store)


class _Sender:
    """The threads of a command that holds the lease: one sends, one keeps the lease while that takes long.

    `error` is why one of them has ended.
    """

    def __init__(self, remote: RemoteFolder) -> None:
        self._remote, self._lease = remote, Lease(remote.store)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._sent = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.error: Exception | None = None

    def begin(self) -> None:
        """Take the lease, and bring the copy up to date."""
        remote = self._remote
        remote.read_mark()
        line = self._lease.acquire(remote.place, remote.line)
        remote.guard = self._lease.renew
        self._keeper.start()
        try:
            remote.fetch(young=line == remote.line)
            remote.line = line  # only now: a fetch that was cut short begins again
            remote.write_mark()
        except BaseException:
            remote.guard = _nothing
            self._sent.set()
            with contextlib.suppress(StoreError):
                self._lease.release()
            raise
        self._thread.start()

    def end(self) -> None:
        """Send the rest, and give the lease back. Raises a thread's error, or that of the last sending."""
        self._end.set()
        self._thread.join()
        try:
            if self.error is not None:
                raise self.error
            self._lease.renew(0.0)
            self._remote.send()
            self._remote.write_mark()
            self._lease.release()
        finally:
            self._sent.set()
            self._remote.guard = _nothing

    def _keep(self) -> None:
        """Give signs of life until all is sent, or the lease is lost."""
        while not self._sent.wait(RENEWED / 3):
            try:
                self._lease.renew()
            except Exception as error:  # the command has to know
                self.error = self.error or error
                return

    def _work(self) -> None:
        """Look for changes until the end, a lost lease, or a store that does not answer for long."""
        wait = SENT_EVERY
        while not self._end.wait(wait):
            began = time.monotonic()
            try:
                self._remote.take_steering()
                self._remote.send()
            except (sqlite3.Error, FileNotFoundError):  # a file changed while it was copied: next time
                pass
            except Exception as error:  # the command has to know
                self.error = error
                return
            # A slow network is not kept busy.
            wait = min(RENEWED, max(SENT_EVERY, 9 * (time.monotonic() - began)))


def _while_fetching(folder: Path) -> FileLock:
    """Return the lock under which a copy is brought up to date."""
    return FileLock(folder / ".fetch.lock")


def _nothing() -> None:
    """Guard nothing: no command works in the copy."""


_AT_WORK: dict[Path, _Sender] = {}  # the folders in which this process works
