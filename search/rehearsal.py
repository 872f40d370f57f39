"""A run gone through without training: how many image-steps each of its tasks has, and what else it reads.

The method's own phases are counted, on the study's labels with blank images and a net that has no weights, so
the counts are exact for any method and cost a moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.configuration import Configuration
from cl_core.dataset import Augment, Data, Images
from cl_core.hparams import Value
from cl_core.memory import Budget
from cl_core.method import METHODS, Method
from cl_core.nets.network import HEADS, LinearHead, Network
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.trainer import epoch_rows
from cl_core.view import View

SIDE = 4  # pixels of a blank image


@dataclass(frozen=True)
class TaskCount:
    """What one task of a run does."""

    images: int  # image-steps of training
    epochs: int  # of all phases
    forwards: int  # images that pass the network at the task's ends: ranking, class means, prototypes
    evaluated: int  # ... and in evaluation: validation rows, and those that the teacher answers as well
    exemplars: int  # kept afterwards


class _Passed:
    """A count that copies of a network share."""

    def __init__(self) -> None:
        self.images = 0

    def __deepcopy__(self, memo: Mapping[int, object]) -> _Passed:
        return self


class _Blank(nn.Module):
    """The mean of an image as its features; counts the images that pass."""

    def __init__(self, passed: _Passed) -> None:
        super().__init__()
        self.passed = passed

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, 1, H, W] -> [B, 2], and the map that this is the average of."""
        self.passed.images += len(x)
        both = torch.cat([x, 1.0 - x], dim=1)
        return both.mean(dim=(2, 3)), (both,)


def rehearse(configuration: Configuration, data: Data) -> list[TaskCount]:
    """The counts of every task of a run on `data`. Raises BadRequest as the run would."""
    method = _with_counts_of(configuration, data)
    recipes = configuration.recipes(data, method)
    sizes = configuration.scenario.sizes(data.num_classes)
    order = configuration.order(data.num_classes, data.class_names)
    view = View(_blank(data), order, configuration.validation, torch.device("cpu"))
    passed = _Passed()
    base = method.base()

    def make() -> Network:
        side = {name: LinearHead(2, data.num_classes, rows) for name, rows in base.side_heads.items()}
        return Network(_Blank(passed), HEADS[base.head](2, data.num_classes), side)

    state = method.build(make)
    out = []
    for index in range(len(sizes)):
        seen, old = sum(sizes[: index + 1]), sum(sizes[:index])
        recipe = method.schedule(recipes[1], index) if index else recipes[0]
        task = Task(index, sizes[: index + 1], view.rows(range(old, seen)), recipe)
        g = Streams(configuration.seed, index)
        passed.images = images = epochs = 0
        method.begin(state, task, view, g)
        for phase in method.phases(state, task, view, g):
            ids = epoch_rows(phase.rows, phase.recipe.batch, g, (phase.name, 0))
            images += phase.recipe.epochs * ids.numel()
            epochs += phase.recipe.epochs
        method.end(state, task, view, g)
        held, before = (len(view.rows(range(k), "val")) for k in (seen, old))
        evaluated = held + (2 * before if state.teacher is not None else 0)
        state.drop_local()
        kept = sum(map(len, state.memories.values()))
        out.append(TaskCount(images, epochs, passed.images, evaluated, kept))
    return out


def _blank(data: Data) -> Data:
    """The same labels; the fingerprint is kept, so that the same rows are held out."""
    x = np.zeros((len(data.train), SIDE, SIDE, 1), np.uint8)
    train = Images(x, data.train.y)
    return dataclasses.replace(data, train=train, test=None, mean=(0.0,), std=(1.0,), augment=Augment())


def _with_counts_of(configuration: Configuration, data: Data) -> Method:
    """The method, with a budget in bytes of stored pixels turned into the same number of blank images."""
    method = configuration.make_method()
    if not isinstance(method.hp, Budget) or method.hp.budget != "bytes":
        return method
    fit = method.hp.exemplars_bytes // int(np.prod(data.shape))
    values: dict[str, Value] = {**configuration.hp, "exemplars_bytes": max(1, fit * SIDE * SIDE)}
    return METHODS[configuration.method](values)
