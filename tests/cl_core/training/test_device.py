"""Streams of a GPU, which no two runs of a process share."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch

from cl_core.errors import RunError
from cl_core.training.device import POOLED, on_stream, own_stream

GPU = torch.device("cuda", 0)


class FakeStream:
    """A stream from torch's pools: of each priority they give the same 32 in turn."""

    turns = count()

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self.device = device
        self.device_index = device.index
        self.cuda_stream = next(self.turns) % POOLED - 1000 * priority
        self.waited: list[Any] = []

    def wait_stream(self, other: Any) -> None:
        """Note the stream that it waits for."""
        self.waited.append(other)


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Let collections leave out what other tests have made: a hundred of them take seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
def test_runs_at_a_time_have_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    long = own_stream(GPU)
    assert long is not None
    for _ in range(3 * POOLED):  # short runs beside a long one
        short = own_stream(GPU)
        assert short is not None
        assert short.cuda_stream != long.cuda_stream
    held = [own_stream(GPU) for _ in range(2 * POOLED - 2)]
    assert len({stream.cuda_stream for stream in held if stream}) == len(held)
    with pytest.raises(RunError, match="at most 64 runs"):
        own_stream(GPU)
    held.clear()
    assert own_stream(GPU) is not None
    assert own_stream(torch.device("cpu")) is None


def test_what_follows_a_run_that_failed_waits_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    around, stream = FakeStream(GPU), FakeStream(GPU)

    @contextlib.contextmanager
    def within(stream: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: around)
    monkeypatch.setattr(torch.cuda, "stream", within)
    with pytest.raises(RunError), on_stream(stream):  # type: ignore[arg-type]
        raise RunError("a loss")
    assert around.waited == [stream]
