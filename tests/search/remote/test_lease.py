"""The lease: one holder at a time, a dead one's ends, and a copy knows whether others were worked on."""

from __future__ import annotations

import pytest

from cl_core.errors import BadRequest
from search.remote import lease as lease_module
from search.remote.lease import Lease, Lost, is_held
from search.remote.object_store import ObjectStore


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
