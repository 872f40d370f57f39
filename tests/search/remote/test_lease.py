"""The lease: one holder at a time, a dead one's ends, and a copy knows whether others were worked on."""

from __future__ import annotations

import time
from typing import Any

import obstore
import pytest

from cl_core.errors import BadRequest
from search.remote import lease as lease_module
from search.remote import working_copy
from search.remote.lease import Lease, Lost, is_held, read_lease
from search.remote.object_store import ObjectStore
from search.remote.remote_folder import RemoteFolder


def test_a_second_holder_is_refused_until_the_first_gives_it_back(bucket: str) -> None:
    store = ObjectStore(f"{bucket}/a")
    first, second = Lease(store), Lease(store)
    first.acquire("here", None)
    assert is_held(store)
    with pytest.raises(BadRequest, match="another run is working in s3://"):
        second.acquire("there", None)
    first.renew(0.0)
    first.release()
    assert not is_held(store)
    second.acquire("there", None)


def test_a_dead_holder_loses_its_lease_and_finds_out(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(f"{bucket}/a")
    dead, second = Lease(store), Lease(store)
    dead.acquire("here", None)
    monkeypatch.setattr(lease_module, "LASTS", 0.0)
    second.acquire("there", None)
    with pytest.raises(Lost, match="another command has taken over"):
        dead.renew(0.0)
    second.renew(0.0)


def test_a_put_that_is_repeated_asks_for_the_lease_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(f"{bucket}/a", 10.0)
    first = Lease(store)
    puts: list[str] = []
    first.acquire("here", None)
    put = obstore.put

    def away_once(store: Any, name: str, content: bytes, **named: Any) -> Any:
        if name == "x" and not puts:
            puts.append(name)
            monkeypatch.setattr(lease_module, "LASTS", 0.0)
            Lease(ObjectStore(f"{bucket}/a")).acquire("there", None)
            raise OSError("it is away")
        return put(store, name, content, **named)

    monkeypatch.setattr("obstore.put", away_once)
    with pytest.raises(Lost):
        store.put("x", b"of the first", lambda: first.renew(0.0))
    assert store.head("x") is None


def test_a_command_keeps_its_lease_while_a_request_takes_long(
    bucket: str, machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_copy, "RENEWED", 0.1)
    folder = working_copy.run_folder(f"{bucket}/a")
    take, renew = RemoteFolder.take_steering, Lease.renew
    store = ObjectStore(f"{bucket}/a")
    monkeypatch.setattr(Lease, "renew", lambda held, every=0.0: renew(held, 0.0))
    monkeypatch.setattr(working_copy, "SENT_EVERY", 0.0)

    def slowly(remote: RemoteFolder) -> None:
        time.sleep(1.0)
        take(remote)

    monkeypatch.setattr(RemoteFolder, "take_steering", slowly)
    with working_copy.working_in(folder):
        time.sleep(0.5)
        found = read_lease(store)
    assert found is not None
    assert found[0].beats > 2


def test_a_machine_that_slept_asks_for_its_lease(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(f"{bucket}/a")
    held, clock = Lease(store), time.clock_gettime
    held.acquire("here", None)
    monkeypatch.setattr(
        "time.clock_gettime", lambda which: clock(which) + 100
    )  # `time.monotonic` stood still
    held.renew()
    found = read_lease(store)
    assert found is not None
    assert found[0].beats == 1


def test_a_command_that_was_killed_is_followed_on_its_machine_at_once(bucket: str) -> None:
    store = ObjectStore(f"{bucket}/a")
    line = Lease(store).acquire("here", None)
    assert Lease(store).acquire("here", line) == line


def test_the_line_stays_until_another_machine_works(bucket: str) -> None:
    store = ObjectStore(f"{bucket}/a")
    lines = []
    for place, known in [("here", None), ("here", 0), ("there", None), ("here", 0)]:
        held = Lease(store)
        lines.append(held.acquire(place, None if known is None else lines[known]))
        held.release()
    assert lines[0] == lines[1]
    assert len(set(lines)) == 3
