"""The learner: a method, its state and its images, which trains one task at a time, phase by phase."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.errors import NonFiniteLoss
from cl_core.images.augment import draw
from cl_core.images.dataset import Augment
from cl_core.images.view import View
from cl_core.method import Method, Phase
from cl_core.nets.network import Network, build_network
from cl_core.records import PhaseValue
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.captured import CapturedStep, Recorder
from cl_core.training.configuration import Configuration
from cl_core.training.epoch_checkpoint import (
    EpochCheckpoints,
    Place,
    Record,
    put_back,
    saved_copies,
    trained_tensors,
)
from cl_core.training.events import Event, Watch
from cl_core.training.fixed_inputs import FixedInputs
from cl_core.training.optimisation import epoch_of
from cl_core.training.result import Trained
from cl_core.training.step import Step
from cl_core.training.weights import load_init

Adapt = Callable[[Phase], Phase | None]
"""Change a phase, or leave it out."""


def unchanged(phase: Phase) -> Phase:
    """Train every phase as the method gives it."""
    return phase


@dataclass(frozen=True)
class Learner:
    """Trains one task: its phases, epochs and steps."""

    method: Method
    state: State
    view: View
    precision: str  # float32 | tf32 | bfloat16
    tasks: int  # of the run, for events
    watch: Watch
    adapt: Adapt = unchanged
    record: Recorder | None = None  # of steps, on a GPU; None: every step is launched kernel by kernel
    saves: EpochCheckpoints | None = None  # of the task that is trained

    def train(self, task: Task, g: Streams) -> Trained:
        """Train the phases of a task that `Method.begin` has opened. Raises RunError."""
        return self.train_phases(self.method.phases(self.state, task, self.view, g), task, g)

    def train_phases(self, phases: Iterable[Phase], task: Task, g: Streams) -> Trained:
        """Train phases in turn, each as `adapt` changes it. Raises RunError."""
        record = Record()
        for whole in phases:
            phase = self.adapt(whole)
            if phase is not None:
                self.train_phase(phase, task, g, record)
        return Trained(tuple(record.values), record.images, record.seconds if record.values else 0.0)

    def train_phase(self, phase: Phase, task: Task, g: Streams, record: Record) -> None:
        """Train one phase, and add its means and its images to `record`. Raises TaskLeft.

        A value is the mean of one term over the images of an epoch: a step counts by its images.
        """
        net, recipe = self.state.net, phase.recipe
        params = list(phase.params) if phase.params is not None else list(net.parameters())
        trained = set(map(id, params))
        net.train(phase.train_mode)
        for module in self.state.modules.values():
            module.train(any(id(p) in trained for p in module.parameters()))
        changed = trained_tensors(phase, self.state, params)
        earlier, ended = self.saves.begin(phase) if self.saves is not None else (None, False)
        values, images = len(record.values), record.images
        if earlier is not None:
            put_back(changed, earlier.tensors)
            record.take(earlier)
            if ended:
                return
        augment = self.view.data.augment if phase.augment else Augment()
        with self.autocast():
            fixed = FixedInputs(phase, net, self.view) if phase.fixed else None
        begun = 0 if earlier is None else earlier.epoch
        event = Event("phase begins", task, self.tasks, phase, begun, self.state, self.view)
        self.watch(event)
        step = Step(phase, self.state, task, params, self.autocast)
        if earlier is not None:
            step.restore(earlier.tensors)

        def place(epoch: int, tensors: dict[str, Tensor]) -> Place:
            so_far = tuple(record.values[values:])
            return Place(epoch, so_far, record.images - images, record.seconds, saved_copies(tensors))

        recorder = self.record if phase.on_grad is None else None
        captured = CapturedStep(step, recorder) if recorder is not None else None
        for epoch in range(begun, recipe.epochs):
            purpose = (phase.name, epoch)
            rows_of = epoch_of(phase, g, epoch)
            draws = draw(augment, sum(map(len, rows_of.steps)), g, purpose, self.view.device)
            rate = recipe.learning_rate(epoch)
            step.begin_epoch(rate)
            steps = self.view.epoch(rows_of.steps, draws) if fixed is None else fixed.batches(rows_of.steps)
            for i, batch in enumerate(steps):
                width = rows_of.widths[i]
                if phase.augment:
                    batch = self.method.augment(self.state, batch, task, g.at(*purpose, i))
                if captured is not None:
                    captured(batch, width)
                elif phase.on_grad is not None:
                    noise = g(*purpose, i, "gradient")
                    step(batch, width, partial(phase.on_grad, params, epoch, width, noise))
                else:
                    step(batch, width)
            assert step.sums is not None
            record.images += rows_of.images
            means = (step.sums / sum(rows_of.widths)).tolist()
            for (name, weight), mean in zip(step.weights.items(), means, strict=True):
                _check_loss(mean, name, task, phase, epoch)
                record.values.append(PhaseValue(phase.name, epoch, name, mean, float(weight), rate))
            self.watch(event._replace(kind="epoch ends", epoch=epoch + 1))
            if self.saves is not None:
                saved = partial(place, epoch + 1, {**changed, **step.tensors()})
                record.started += self.saves.epoch_ends(recipe.epochs - epoch - 1, saved)
        for module in (net, *self.state.modules.values()):
            _check_weights(module, task, phase)
        if self.saves is not None:
            self.saves.phase_ends(place(recipe.epochs, changed))
        replays = captured.replays if captured is not None else 0
        self.watch(event._replace(kind="phase ends", epoch=recipe.epochs, replays=replays))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which networks and losses compute with the precision of the run."""
        if self.precision != "bfloat16":
            return contextlib.nullcontext()
        # All threads have one cache of casts, and each empties it for the others. With it, the gradient of a
        # weight that a loss uses twice would be summed in one precision or another.
        return torch.autocast(self.view.device.type, dtype=torch.bfloat16, cache_enabled=False)


def _check_loss(mean: float, term: str, task: Task, phase: Phase, epoch: int) -> None:
    if not math.isfinite(mean):
        raise NonFiniteLoss(
            f"every loss term must stay finite: {term!r} became {mean} in task {task.index}, "
            f"phase {phase.name!r}, epoch {epoch}; lower the learning rate or the weight"
        )


def _check_weights(module: nn.Module, task: Task, phase: Phase) -> None:
    # No loss has seen the weights of the last step. One answer for all tensors: a GPU waits once.
    tensors = module.state_dict()
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()] or [torch.tensor(True)])
    for name, fine in zip(tensors, finite.tolist(), strict=False):
        if not fine:
            raise NonFiniteLoss(
                f"every weight must stay finite: {name!r} did not in task {task.index}, phase "
                f"{phase.name!r}; lower the learning rate or the weight"
            )


def first_state(configuration: Configuration, method: Method, view: View) -> State:
    """Return the state before the first task, on the view's device. Raises BadRequest."""
    base = method.base()

    def make() -> Network:
        net = build_network(
            configuration.net or view.data.net,
            view.data.shape,
            view.data.num_classes,
            base.head,
            base.last_relu or configuration.shared_base,
            configuration.seed,
            base.side_heads,
        )
        if configuration.init:
            load_init(net, configuration.init)
        net.to(memory_format=torch.channels_last)
        return net.to(view.device)

    return method.build(make)
