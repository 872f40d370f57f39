"""The small runs of `cl_core.testing`, and networks and states made by hand."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cl_core.method import METHODS, Method, Phase
from cl_core.nets.network import Frozen, LinearHead, Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Out, Task, no_rows
from cl_core.testing import small
from cl_core.testing.small import (
    BUDGET,
    CLASSES,
    RECIPE,
    SIZES,
    SPEC,
    TEST,
    TRAIN,
    VAL,
    Run,
    configuration,
    copied,
    counts,
    data,
    full_hp,
    hp_of,
    other_values,
    run,
    trace,
    train,
    train_in_pieces,
)
from cl_core.training.events import Event

__all__ = [
    "BUDGET",
    "CLASSES",
    "RECIPE",
    "SIZES",
    "SPEC",
    "TEST",
    "TRAIN",
    "VAL",
    "Run",
    "configuration",
    "copied",
    "counts",
    "data",
    "full_hp",
    "hp_of",
    "other_values",
    "run",
    "trace",
    "train",
    "train_in_pieces",
]

DIM = 6  # features of `linear_state`


def variants() -> list[tuple[str, str]]:
    """(method, choices as JSON): the variants of every method."""
    return [(method, json.dumps(hp)) for method in METHODS for hp in small.variants(method)]


def plain_net(shape: tuple[int, int, int], last_relu: bool) -> nn.Module:
    """A net of your own without BatchNorm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 16), nn.ReLU())


class Fixed(nn.Module):
    """A network that answers with given logits [B, seen], whatever the images."""

    def __init__(self, logits: Tensor, features: Tensor | None = None) -> None:
        super().__init__()
        self.logits, self.features = logits, features
        self.head = LinearHead(2, logits.shape[1])
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Out:
        self.asked.append(x)
        return Out(self.logits if self.features is None else self.features, self.logits, ())


def fixed_state(student: Tensor, teacher: Tensor | None = None, memories: tuple[str, ...] = ()) -> State:
    """A state whose networks answer with given logits."""
    state = State(Fixed(student), lambda: Fixed(student), memories)  # type: ignore[arg-type, return-value]
    if teacher is not None:
        state.teacher = Frozen(Fixed(teacher))  # type: ignore[arg-type]
    return state


def linear_state(task: Task, side: dict[str, int], seed: int = 0, **kept: Tensor) -> State:
    """A linear backbone of 27 inputs and `DIM` features with opened heads; of 8 classes at the most.

    `side` maps a side head to its rows a class. After the first task there are prototypes of the old classes,
    `kept` beside them, and a teacher of other weights.
    """

    def net(seed: int, seen: int) -> Network:
        g = torch.Generator().manual_seed(seed)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(27, DIM))
        with torch.no_grad():
            for p in backbone.parameters():
                p.copy_(torch.randn(p.shape, generator=g) / 5)
        heads = {name: LinearHead(DIM, 8, rows) for name, rows in side.items()}
        made = Network(backbone, LinearHead(DIM, 8), heads, (3, 3, 3))
        for head in made.heads():
            head.open(0, seen, g)
        return made

    state = State(net(seed, task.seen), lambda: net(seed, 0), ())
    if task.index:
        student = state.net
        state.net = net(seed + 1, task.old)
        state.remember_teacher()
        state.net = student
        g = torch.Generator().manual_seed(9)
        state.kept = {"prototypes": torch.randn(task.old, DIM, generator=g), **kept}
    return state


def drawn_batch(method: Method, state: State, task: Task, labels: list[int], step: int = 0) -> Batch:
    """Noise [n, 3, 3, 3] with labels, and what the method draws for it at a step."""
    x = torch.randn(len(labels), 3, 3, 3, generator=torch.Generator().manual_seed(5))
    batch = Batch(x, torch.tensor(labels), rows=torch.arange(len(labels)))
    return method.augment(state, batch, task, Streams(0, 1, ("train", 0, step)))


def second_input_of_the_head(method: Method, state: State, batch: Batch, task: Task) -> Tensor:
    """The input of the head after the features of its images: augmented prototypes [n, d]."""
    inputs: list[Tensor] = []
    hook = state.net.head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    method.loss(state, batch, task)
    hook.remove()
    return inputs[1]


def turned(x: Tensor) -> Tensor:
    """Each image in its four rotations, one after the other."""
    return torch.stack([torch.rot90(image, r, (1, 2)) for image in x for r in range(4)])


def gradient(head: nn.Module) -> Tensor:
    """Of a head's rows."""
    (weight, _) = head.parameters()
    assert weight.grad is not None
    return weight.grad


def task(*sizes: int, rows: Tensor | None = None) -> Task:
    """A task after which `sizes` classes a task have been seen."""
    return Task(len(sizes) - 1, sizes, no_rows() if rows is None else rows, Recipe())


def set_rows(state: State, start: int, value: float) -> None:
    """Overwrite the rows of class `start` and later ones, in every head."""
    with torch.no_grad():
        for head in state.net.heads():
            for rows in head.rows():
                rows[start * getattr(head, "per_class", 1) :] = value


class Passed(NamedTuple):
    """A phase that was trained, with the tensors of the state before and after it."""

    task: Task
    phase: Phase
    before: dict[str, Tensor]  # of State.tensors()
    after: dict[str, Tensor]


def phases(method: str, hp: dict[str, Any] | None = None, **rest: Any) -> list[Passed]:
    """Every phase of a tiny run, in order."""
    begun: list[dict[str, Tensor]] = []
    passed: list[Passed] = []

    def watch(event: Event) -> None:
        if event.kind == "epoch ends":
            return
        tensors = {name: tensor.clone() for name, tensor in event.state.tensors().items()}
        if event.kind == "phase begins":
            begun.append(tensors)
        else:
            passed.append(Passed(event.task, event.phase, begun[-1], tensors))

    train(configuration(method, hp, **rest), watch=watch)
    return passed


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logits(seed: int, classes: int, rows: int = 4) -> Tensor:
    """Logits [rows, classes] of a usual size, the same for the same seed."""
    return 2 * normal(seed, rows, classes)


def batch(labels: list[int] | Tensor) -> Batch:
    """Black images [n, 3, 8, 8] with labels."""
    return Batch(torch.zeros(len(labels), 3, 8, 8), torch.as_tensor(labels))
