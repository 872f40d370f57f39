"""Image-steps of a run, counted by a rehearsal without training.

The method's own phases are counted, on the study's labels with blank images and a net that has no weights, so
the counts are exact for any method and cost a moment.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.hparams import Value
from cl_core.images.dataset import Augment, Data, Images
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import METHODS, Method, Phase
from cl_core.nets.network import HEADS, LinearHead, Network
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.chf import strongest
from cl_core.training.configuration import Configuration
from cl_core.training.optimisation import epoch_of
from cl_core.training.shared_base import on_heads, takes_the_head
from cl_core.training.task_end import end_phase

SIDE = 4  # pixels of a blank image


@dataclass(frozen=True)
class TaskCount:
    """Counts of one task of a run: of all attempts under adaptive, of the most possible ones under chf."""

    images: int  # image-steps of training
    own: int  # those of them that remain where the first task's network is there already
    epochs: int  # of all phases that leave rows
    forwards: int  # images that pass the network at the task's ends: ranking, class means, prototypes
    evaluated: int  # ... and in evaluation: rows of the open splits, and those that the teacher answers
    exemplars: int  # kept afterwards


class _Passed:
    """Count shared by copies of a network."""

    def __init__(self) -> None:
        self.images = 0

    def __deepcopy__(self, memo: Mapping[int, object]) -> _Passed:
        return self


class _Blank(nn.Module):
    """Backbone that returns the mean of an image and counts the images."""

    def __init__(self, passed: _Passed) -> None:
        super().__init__()
        self.passed = passed

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, 1, H, W] -> [B, 2], and the map that this is the average of."""
        self.passed.images += len(x)
        both = torch.cat([x, 1.0 - x], dim=1)
        return both.mean(dim=(2, 3)), (both,)


@dataclass(frozen=True)
class _Done:
    """Counts of learning a task once."""

    images: int
    epochs: int
    forwards: int
    ended: int  # images of the phases after the network's training


def rehearse(configuration: Configuration, data: Data) -> list[TaskCount]:
    """Return the counts of every task of a run on `data`. Raises BadRequest as the run would.

    Under chf every learning rate and every attempt is counted: how many it takes is not known before. Under
    adaptive an attempt counts as one with the run's own values.
    """
    method = _with_counts_of(configuration, data)
    recipes = configuration.recipes(data, method)
    sizes = configuration.scenario.sizes(data.num_classes)
    order = configuration.order(data.num_classes, data.class_names)
    view = View(_blank(data), order, configuration.validation, torch.device("cpu"))
    splits = ("val", "test") if configuration.unsealed and data.test is not None else ("val",)
    framework = None if method.restarts else configuration.framework()
    adaptation = None if method.restarts else configuration.adaptation()
    passed = _Passed()
    state = _state(method, data.num_classes, passed)
    out = []
    for index in range(configuration.until or len(sizes)):
        seen, old = sum(sizes[: index + 1]), sum(sizes[:index])
        recipe = method.schedule(recipes[1], index) if index else recipes[0]
        task = Task(index, sizes[: index + 1], view.rows(range(old, seen)), recipe)
        g = Streams(configuration.seed, index)
        shared = configuration.shared_base and not index
        before = copy.deepcopy(state) if framework is not None and index else None

        def left(phase: Phase, shared: bool = shared) -> Phase | None:
            if not shared:
                return phase
            return None if takes_the_head(method) else on_heads(phase, state.net)

        done = _learn(method, state, task, view, g, passed, left)
        images, forwards, epochs = done.images, done.forwards, done.epochs
        own = done.images if index else done.ended
        if shared:
            plain = METHODS["finetune"]()
            first = _learn(plain, _state(plain, data.num_classes, passed), task, view, g, passed)
            images, own, epochs = first.images + done.images, done.images, first.epochs + done.epochs
        if framework is not None and before is not None:
            rates = len(framework.factors)
            times = framework.attempts if strongest(method, configuration.hp) else 1
            fast = _learn(METHODS["finetune"](), before, task, view, g, passed)
            images = own = rates * fast.images + times * done.images
            judged = (rates + times) * len(view.rows(range(old, seen), "val"))
            forwards = rates * fast.forwards + times * done.forwards + judged
        if adaptation is not None and index:
            images = own = adaptation.attempts * done.images
            forwards = adaptation.attempts * (done.forwards + len(view.rows(range(seen), "val")))
        evaluated = sum(len(view.rows(range(seen), split)) for split in splits)
        if state.teacher is not None:
            evaluated += 2 * len(view.rows(range(old), "val"))
        state.drop_local()
        kept = sum(map(len, state.memories.values()))
        out.append(TaskCount(images, own, epochs, forwards, evaluated, kept))
    return out


def _learn(
    method: Method,
    state: State,
    task: Task,
    view: View,
    g: Streams,
    passed: _Passed,
    left: Callable[[Phase], Phase | None] = lambda phase: phase,
) -> _Done:
    """Rehearse a task; `left` gives the part of a phase that is trained."""
    passed.images = images = ended = epochs = 0
    method.begin(state, task, view, g)
    for whole in method.phases(state, task, view, g):
        phase = left(whole)
        if phase is not None:
            images += phase.recipe.epochs * sum(epoch_of(phase, g, 0).widths)
            epochs += phase.recipe.epochs
    for phase in map(end_phase, method.end_phases(state, task, view, g)):
        ended += phase.recipe.epochs * sum(epoch_of(phase, g, 0).widths)
        epochs += phase.recipe.epochs
    method.end(state, task, view, g)
    return _Done(images + ended, epochs, passed.images, ended)


def _state(method: Method, classes: int, passed: _Passed) -> State:
    """Return the state at the start of a run, with a net without weights."""
    base = method.base()

    def make() -> Network:
        side = {name: LinearHead(2, classes, rows) for name, rows in base.side_heads.items()}
        return Network(_Blank(passed), HEADS[base.head](2, classes), side)

    return method.build(make)


def _blank(data: Data) -> Data:
    """Return blank images with the same labels and fingerprint, so that the same rows are held out."""

    def blank(images: Images) -> Images:
        return Images(np.zeros((len(images), SIDE, SIDE, 1), np.uint8), images.y)

    test = None if data.test is None else blank(data.test)
    return dataclasses.replace(
        data, train=blank(data.train), test=test, mean=(0.0,), std=(1.0,), augment=Augment()
    )


def _with_counts_of(configuration: Configuration, data: Data) -> Method:
    """Return the method; a budget in bytes becomes the same number of blank images."""
    method = METHODS[configuration.method](configuration.hp)
    if not isinstance(method.hp, Budget) or method.hp.budget != "bytes":
        return method
    fit = method.hp.exemplars_bytes // int(np.prod(data.shape))
    values: dict[str, Value] = {**configuration.hp, "exemplars_bytes": max(1, fit * SIDE * SIDE)}
    return METHODS[configuration.method](values)
