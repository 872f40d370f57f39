"""Steps captured as CUDA graphs: a small network's step is bound by the launches of its hundreds of kernels.

A graph launches the same kernels in the same order as the step that was captured, so the bits are the same.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from cl_core.task import Batch
from cl_core.training.step import Step

Again = Callable[[], None]
RECORDING = threading.Lock()
"""Held while a graph is recorded: the memory of a GPU must not be freed meanwhile."""

_FAILED: list[torch.cuda.CUDAGraph] = []  # torch's allocators may still point to them


class Recorder(Protocol):
    """Records work on tensors that keep their places, to be done again by one call."""

    def __call__(self, work: Callable[[], None]) -> Again | None:
        """Return what does the work again; nothing is done yet. None where it cannot be recorded."""


def close_pool(pool: tuple[int, int]) -> None:
    """Close a pool of memory that torch leaves open where a recording has failed.

    Otherwise no run of this process could free memory any more, nor this run record again. torch has no
    public name for that.
    """
    device = torch.cuda.current_device()
    with contextlib.suppress(RuntimeError, AttributeError):  # it is closed, or the names are gone
        torch._C._cuda_endAllocateToPool(device, pool)
        torch._C._cuda_releasePool(device, pool)


class Graphs:
    """Records work as CUDA graphs on the current stream, all in one pool of memory.

    The graphs of a pool must not run at the same time, and none may read what another left in the pool. Runs
    of one process record in turn.
    """

    def __init__(self, device: torch.device, close: Callable[[tuple[int, int]], None] | None = None) -> None:
        self._device, self._close = device, close or close_pool
        self._pool = torch.cuda.graph_pool_handle()
        self._first: torch.cuda.CUDAGraph | None = None  # a pool without a graph is gone
        self.refusals: list[str] = []  # why work could not be recorded

    def __call__(self, work: Callable[[], None]) -> Again | None:
        """Record; work that waits for the GPU, or copies from the host, cannot be recorded."""
        with RECORDING:
            if self._first is None:
                self._first = self._recorded(lambda: torch.zeros(1, device=self._device))
            try:
                return self._recorded(work).replay
            except RuntimeError as error:
                self.refusals.append(str(error).partition("\n")[0])
                return None

    def _recorded(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other runs of this process may use the GPU meanwhile.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                self._end(graph)
            raise
        self._end(graph)
        return graph

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:
            _FAILED.append(graph)
            self._close(self._pool)
            raise


class CapturedStep:
    """The steps of a phase, replayed from a recording for each shape of batch that comes often.

    The first steps of a shape are plain ones. They train as any other, and make what outlives a step, such as
    momenta. Shapes beyond the first few stay plain, and so does all that follows where recording fails.
    """

    PLAIN = 2  # steps of a shape before it is recorded
    SHAPES = 2  # recorded: full batches, and an epoch's last

    def __init__(self, step: Step, record: Recorder) -> None:
        self._step, self._record = step, record
        self._met: Counter[object] = Counter()
        self._recorded: dict[object, _Recorded] = {}
        self._fails = False
        self.replays = 0

    def __call__(self, batch: Batch, width: int) -> None:
        """Train on a batch that counts as `width` images."""
        key = (width, *((name, t.shape, t.stride(), t.dtype) for name, t in _tensors(batch)))
        known = self._recorded.get(key)
        if known is None:
            self._met[key] += 1
            apart = any(t.device != batch.x.device for _, t in _tensors(batch))  # read from the host
            few = self._met[key] <= self.PLAIN
            if self._fails or apart or few or len(self._recorded) == self.SHAPES:
                self._step(batch, width)
                return
            known = _Recorded(self._step, batch, width, self._record)
            if known.replay is None:
                self._fails = True
                self._step(batch, width)
                return
            self._recorded[key] = known
        known(batch)
        self.replays += 1


class _Recorded:
    """One recording, and the places where its batch lies."""

    def __init__(self, step: Step, batch: Batch, width: int, record: Recorder) -> None:
        self._step = step
        drawn = {name: torch.empty_like(t) for name, t in batch.drawn.items()}
        self._batch = Batch(
            torch.empty_like(batch.x), torch.empty_like(batch.y), drawn, torch.empty_like(batch.rows)
        )
        self.replay = record(lambda: step(self._batch, width))
        self._weights = step.weights

    def __call__(self, batch: Batch) -> None:
        assert self.replay is not None
        for (_, place), (_, value) in zip(_tensors(self._batch), _tensors(batch), strict=True):
            place.copy_(value)
        self.replay()
        self._step.weights = self._weights


def _tensors(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    yield from (("x", batch.x), ("y", batch.y), ("rows", batch.rows))
    yield from sorted(batch.drawn.items())
