"""The trainer's steps against bare ones, method by method, in the increment of two equal tasks.

A bare step runs the networks that the method's step runs (forward, backward of a cross-entropy, fused
optimiser) on ready tensors. What the trainer adds is reading and augmenting images, the method's draws, its
loss, and the records. A bare step with the method's loss leaves the loss out of this: its ratio is that of
the trainer alone, and of the images that a method makes in `augment` (R-DFCIL). Rounds alternate between
all three; a ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.errors import unknown
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.loading import load
from cl_core.method import METHODS
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.configuration import Configuration
from cl_core.training.epoch_checkpoint import Record
from cl_core.training.trainer import Training

SCENARIO = "B0-2tasks"
Figures = dict[str, dict[str, float]]
Round = Callable[[], object]


class Size(NamedTuple):
    """A data set with its network, and the images and epochs of a round."""

    data: Data
    net: str
    batch: int
    epochs: int


class Call(NamedTuple):
    """One forward of a network within a step."""

    net: nn.Module
    x: Tensor
    trains: bool


def digits() -> Size:
    """Return the digits with the small net: many short steps."""
    return Size(load(DataSpec("digits")), "convnet-small", 64, 3)


def resnet32() -> Size:
    """Return noise of CIFAR's size with ResNet-32: a long step, or two with exemplars."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (280, 32, 32, 3), dtype=np.uint8)
    return Size(
        Data.from_arrays(x, np.arange(280) % 10, augment=Augment(crop=4, flip=True)), "resnet32", 128, 1
    )


SIZES = {"digits": digits, "resnet32": resnet32}


class Rounds(NamedTuple):
    """A round of the trainer, of bare steps, and of bare steps with the method's loss."""

    trainer: Round
    bare: Round
    bare_with_loss: Round


def prepared(method: str, size: Size) -> Rounds:
    """Return the rounds of a method. The first task is trained for one epoch before."""
    recipe = {"epochs": 1, "batch": size.batch, "lr": 1e-4}
    spec, scenario = DataSpec(size.data.name), parse_scenario(SCENARIO)
    configuration = Configuration(method, spec, scenario, recipe=recipe, net=size.net)
    training = Training(configuration, size.data, measure=False)
    training.next_task()
    state, task, g = training.state, training.task(1), Streams(0, 1)
    training.method.begin(state, task, training.view, g)
    for phase in training.method.phases(state, task, training.view, g):
        if phase.rows and phase.train_mode:
            break
        short = dataclasses.replace(phase, recipe=phase.recipe.replace(epochs=1), steps=min(phase.steps, 2))
        training.learner.train_phase(short, task, g, Record())
    phase = dataclasses.replace(phase, recipe=phase.recipe.replace(epochs=size.epochs))
    batches: list[Batch] = []
    calls: list[list[Call]] = []

    with _noted(state) as since:

        def noting(s: State, b: Batch, t: Task) -> dict[str, Term]:
            terms = phase.loss(s, b, t)
            batches.append(b)
            calls.append(since.copy())  # those of `augment` as well
            since.clear()
            return terms

        training.learner.train_phase(dataclasses.replace(phase, loss=noting), task, g, Record())
    params = list(phase.params or state.net.parameters())

    def loss_of_networks(step: int) -> Tensor:
        total = torch.zeros((), device=training.device)
        for net, x, trains in calls[step]:
            with torch.set_grad_enabled(trains):
                out = net(x)
            if trains:
                logits = out.logits
                total = total + F.cross_entropy(logits, logits.detach().argmax(dim=1))
        return total

    recipe_of = phase.recipe.optimizer
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe_of]
    more = {"momentum": 0.9} if recipe_of == "sgd" else {}

    optimizer = kind(params, lr=1e-4, weight_decay=5e-4, fused=True, **more)

    def own_loss(step: int) -> Tensor:
        terms = phase.loss(state, batches[step], task)
        return torch.stack([term.value * term.weight for term in terms.values()]).sum()

    def bare(loss: Callable[[int], Tensor]) -> None:
        state.net.train()
        for step in range(len(batches)):
            with training.learner.autocast():
                value = loss(step)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

    return Rounds(
        lambda: training.learner.train_phase(phase, task, Streams(0, 1), Record()),
        lambda: bare(loss_of_networks),
        lambda: bare(own_loss),
    )


@contextmanager
def _noted(s: State) -> Iterator[list[Call]]:
    """Note every forward of a network of the state within."""
    calls: list[Call] = []

    def note(net: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.append(Call(net, given[0].detach(), torch.is_grad_enabled() and isinstance(net, Network)))

    teachers = [s.teacher] if s.teacher else []
    nets = [s.net, *teachers, *s.copies.values(), *s.nets.values(), *s.modules.values()]
    hooks = [net.register_forward_pre_hook(note) for net in nets]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


def ratios(of: Rounds, rounds: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Return the shares of throughput that the trainer reaches: of bare steps, and of those with the loss."""
    seconds: dict[Round, list[float]] = {work: [] for work in of}
    for r in range(rounds + 1):
        for work in of if r % 2 else reversed(of):
            seconds[work].append(_seconds(work, clock))
    own, *others = (statistics.median(seconds[work][1:]) for work in of)
    bare, with_loss = (round(other / own, 4) for other in others)
    return bare, with_loss


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m tests.benchmarks steps`."""
    group = parser.add_argument_group("steps")
    group.add_argument("--rounds", type=int, default=9, help="rounds of each method and net (9)")
    group.add_argument("--method", action="append", help="only this method; may be repeated")
    group.add_argument(
        "--size", choices=sorted(SIZES), action="append", help="only this size; may be repeated"
    )
    group.add_argument(
        "--cpu", action="store_true", help="count CPU seconds, for a busy machine; set OMP_NUM_THREADS=1"
    )


def measure(asked: argparse.Namespace) -> Figures:
    """Return the ratio of every method on each size."""
    methods, clock = asked.method or METHODS.names(), time.process_time if asked.cpu else time.perf_counter
    for method in methods:
        if method not in METHODS.names():
            raise unknown("method", method, METHODS.names())
    out: Figures = {method: {} for method in methods}
    for name in asked.size or SIZES:
        size = SIZES[name]()
        for method in methods:
            bare, with_loss = ratios(prepared(method, size), asked.rounds, clock)
            out[method] |= {f"{name}_ratio": bare, f"{name}_ratio_with_loss": with_loss}
            print(f"steps: {method} on {name}: {bare:.3f}, {with_loss:.3f} with its loss", file=sys.stderr)
    return out
