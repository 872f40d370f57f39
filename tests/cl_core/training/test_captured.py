"""Steps that are replayed from a recording: which ones, and that they train as plain ones do.

A CPU has no graphs. Here a recording does its work again in Python, on the tensors of its first batch. So it
shows what a step reads elsewhere. `python -m tests.gpu contract` has the same with CUDA graphs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cl_core.method import Phase
from cl_core.recipe import Recipe
from cl_core.task import Batch, Term
from cl_core.training.captured import Again, CapturedStep, Graphs
from cl_core.training.step import Step
from cl_core.training.trainer import Training
from tests import tiny


class Recorded:
    """A recorder whose recordings do the work again."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, work: Callable[[], None]) -> Again:
        self.made += 1
        return work


def refusing(work: Callable[[], None]) -> None:
    """A recorder that can record nothing."""


def _traces(settings: Any, record: Any) -> tuple[list[Any], list[int]]:
    replays: list[int] = []
    training = Training(
        settings, tiny.data(), watch=lambda e: replays.append(e.replays) if e.kind == "phase ends" else None
    )
    training.learner = dataclasses.replace(training.learner, record=record)
    traces = []
    while not training.finished:
        traces.append(tiny.trace(training.next_task()))
    return traces, replays


@pytest.mark.parametrize("method", ["lwf", "pass", "il2a", "gcr", "eeil", "bic", "r_dfcil", "rps_net"])
def test_replayed_steps_train_as_plain_ones(method: str) -> None:
    settings = tiny.configuration(method, recipe={"epochs": 4})
    known = tiny.run(method, recipe={"epochs": 4}).traces
    traces, replays = _traces(settings, Recorded())
    assert traces == known
    assert sum(replays) > 0


def test_where_nothing_can_be_recorded_every_step_is_a_plain_one() -> None:
    settings = tiny.configuration("lwf", recipe={"epochs": 4})
    traces, replays = _traces(settings, refusing)
    assert traces == tiny.run("lwf", recipe={"epochs": 4}).traces
    assert replays == [0, 0, 0]


def test_noise_on_gradients_is_never_recorded() -> None:
    settings = tiny.configuration("eeil", {"grad_noise": "mean_grad"}, recipe={"epochs": 4})
    recorder = Recorded()
    traces, replays = _traces(settings, recorder)
    assert traces == tiny.train(settings).traces
    # The first task has no noise; later ones have it in both stages.
    assert replays[0] > 0
    assert not any(replays[1:])


def _steps(record: Any) -> tuple[CapturedStep, torch.nn.Parameter]:
    net = torch.nn.Linear(2, 1)
    state: Any = tiny.fixed_state(torch.zeros(1, 1))

    def loss(s: Any, b: Batch, task: Any) -> dict[str, Term]:
        return {"ce": Term(net(b.x).square().mean())}

    params = (net.weight, net.bias)
    phase = Phase("train", (), Recipe(), loss, params)
    step = Step(phase, state, tiny.task(1), params, contextlib.nullcontext)
    step.begin_epoch(0.1)
    return CapturedStep(step, record), net.weight


def _batch(n: int, **drawn: torch.Tensor) -> Batch:
    return Batch(torch.ones(n, 2), torch.zeros(n, dtype=torch.int64), drawn)


def test_a_shape_is_recorded_at_its_third_step_and_no_more_than_two_shapes_are() -> None:
    recorder = Recorded()
    steps, _ = _steps(recorder)
    for n in (4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 2):
        steps(_batch(n), n)
    assert (recorder.made, steps.replays) == (2, 3)


def test_batches_of_one_size_that_count_differently_are_different_shapes() -> None:
    recorder = Recorded()
    steps, _ = _steps(recorder)
    for width in (4, 2, 4, 2, 4):
        steps(_batch(4), width)
    assert (recorder.made, steps.replays) == (1, 1)


def test_after_one_refusal_no_other_shape_is_tried() -> None:
    asked: list[object] = []
    steps, weight = _steps(asked.append)
    before = weight.detach().clone()
    for n in (4, 4, 4, 4, 3, 3, 3):
        steps(_batch(n), n)
    assert (len(asked), steps.replays) == (1, 0)
    assert not torch.equal(weight, before)


def test_a_batch_with_draws_on_another_device_is_never_recorded() -> None:
    recorder = Recorded()
    steps, _ = _steps(recorder)
    for _ in range(4):
        steps(_batch(4, noise=torch.zeros(4, device="meta")), 4)
    assert recorder.made == 0


class FakeGraph:
    """A CUDA graph whose recording ends well, unless its work failed."""

    failed = False
    ended = 0

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        """Begin."""

    def capture_end(self) -> None:
        """End, as torch does where the GPU has given the recording up."""
        FakeGraph.ended += 1
        if FakeGraph.failed:
            raise RuntimeError("capture invalidated")

    def replay(self) -> None:
        """Do nothing."""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pools that were closed after recordings that failed, with graphs that need no GPU."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(FakeGraph, "failed", False)
    monkeypatch.setattr(FakeGraph, "ended", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return calls


def test_a_recording_that_fails_leaves_nothing_open_in_torchs_allocator(
    closed: list[tuple[int, int]],
) -> None:
    def waits() -> None:
        FakeGraph.failed = True
        raise RuntimeError("operation not permitted when stream is capturing\nadvice")

    record = Graphs(torch.device("cpu"), closed.append)
    assert record(lambda: None) is not None
    assert closed == []
    assert record(waits) is None
    assert record.refusals == ["operation not permitted when stream is capturing"]
    assert closed == [(0, 1)]


def test_an_interrupt_ends_the_recording(closed: list[tuple[int, int]]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Graphs(torch.device("cpu"), closed.append)(interrupted)
    assert FakeGraph.ended == 2  # of the pool's first graph, too
