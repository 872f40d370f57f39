"""The lease of a folder in an object store: one command works there at a time, on whichever machine.

The lease is an object that its holder writes again every few seconds, each time on condition that it is as
the holder left it. A holder that has not done so for `LASTS` seconds is dead, by the clock of the store, and
another command may take its lease. So no clock of a machine matters, and two never hold it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from cl_core.errors import BadRequest
from search.remote.object_store import Conflict, ObjectStore, Stored, StoreError, Tag

LEASE = ".lease"
LASTS = 60.0  # seconds without a sign of life after which a holder counts as dead
RENEWED = 15.0  # seconds between two signs of life


@dataclass(frozen=True)
class Holder:
    """A holder of a lease, as it stands in the object.

    `line` names the line of copies that the folder's files belong to: it changes where another machine takes
    the folder over. `place` is the holder's copy on its machine.
    """

    line: str
    place: str
    command: str  # one command that held the lease
    host: str
    pid: int
    beats: int = 0  # signs of life
    released: bool = False

    def to_bytes(self) -> bytes:
        """Return the content of the object."""
        return json.dumps(asdict(self)).encode()


class Lost(StoreError):
    """Another command has taken the lease."""


class Lease:
    """The lease of one command. `line` is the folder's line of copies while it is held."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._mine: Holder | None = None
        self._tag: Tag | None = None
        self._renewed = 0.0
        self._lock = threading.Lock()

    def acquire(self, place: str, line: str | None) -> str:
        """Take the lease for a machine's copy `place`, whose files belong to `line`; return the new line.

        It is the old one if no other copy has been worked on since. Raises BadRequest if another command
        holds the lease.
        """
        before = read_lease(self._store)
        if before is not None and not before[0].released and before[0].place != place:
            age = _age(self._store, before[1])
            if age < LASTS:
                raise BadRequest(_held(self._store.url, before[0], age))
        same = before is not None and line is not None and before[0].line == line
        mine = Holder(
            line if same and line is not None else uuid.uuid4().hex,
            place,
            uuid.uuid4().hex,
            socket.gethostname(),
            os.getpid(),
        )
        self._write(mine, None if before is None else before[1].tag)
        return mine.line

    def renew(self, every: float | None = None) -> None:
        """Give a sign of life, unless the last one is younger than `every` seconds (default: RENEWED).

        Raises Lost.
        """
        every = RENEWED if every is None else every
        with self._lock:
            if self._mine is None or _seconds() - self._renewed < every:
                return
            self._write(replace(self._mine, beats=self._mine.beats + 1), self._tag)

    def release(self) -> None:
        """Give the lease back. Raises Lost."""
        with self._lock:
            if self._mine is not None:
                self._write(replace(self._mine, released=True), self._tag)
                self._mine = None

    def _write(self, holder: Holder, before: Tag | None) -> None:
        content, began = holder.to_bytes(), _seconds()
        try:
            self._tag = self._store.put_if(LEASE, content, before)
        except Conflict:
            # A repeated put finds its own object where the first answer was lost.
            found = read_lease(self._store)
            if found is None or found[0] != holder:
                if self._mine is None:
                    raise BadRequest(
                        f"another run has begun to work in {self._store.url}: wait for it or end it, or use "
                        "another --out"
                    ) from None
                raise Lost(
                    f"another command has taken over {self._store.url}, because this one gave no sign of "
                    f"life for {LASTS:g} s: it ends here, and the other one continues"
                ) from None
            self._tag = found[1].tag
        self._mine, self._renewed = holder, began


def read_lease(store: ObjectStore) -> tuple[Holder, Stored] | None:
    """Return the last holder of a lease; None if nobody ever held it. Raises StoreError if it is damaged."""
    found = store.get(LEASE)
    if found is None:
        return None
    try:
        return Holder(**json.loads(found[0])), found[1]
    except (ValueError, TypeError):
        raise StoreError(
            f"{store.url}/{LEASE} is damaged: remove it when no command works there, then give the command "
            "again"
        ) from None


def is_held(store: ObjectStore) -> bool:
    """Tell whether a command holds the lease, or held it when it died less than `LASTS` seconds ago."""
    found = read_lease(store)
    if found is None or found[0].released:
        return False
    return _age(store, found[1]) < LASTS


def _age(store: ObjectStore, lease: Stored) -> float:
    """Return the seconds since the last sign of life, by the clock of the store if it may be written."""
    probe, now = f".clock-{uuid.uuid4().hex}", None
    with contextlib.suppress(StoreError):
        store.put(probe, b"")
        now = store.head(probe)
        store.delete([probe])
    there = datetime.now(UTC) if now is None else now.time
    return max(0.0, (there - lease.time).total_seconds())


def _seconds() -> float:
    """Return the time of a clock that goes on while the machine sleeps, as `time.monotonic` does not."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _held(url: str, holder: Holder, age: float) -> str:
    return (
        f"another run is working in {url} (process {holder.pid} on {holder.host}, last sign of life "
        f"{age:.0f} s ago): wait for it or end it, or use another --out. A dead one's lease ends after "
        f"{LASTS:g} s."
    )
