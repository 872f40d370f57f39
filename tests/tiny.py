"""Runs of a tenth of a second: 7 classes of 8x8 colour images in 3 unequal tasks, 14 training rows each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.configuration import Configuration
from cl_core.dataset import Data, DataSpec, Images, load
from cl_core.evaluation import Evaluation
from cl_core.hparams import Choice, HParam, Value, hparams
from cl_core.method import METHODS, Method
from cl_core.nets.network import Frozen, LinearHead, Network
from cl_core.recipe import Recipe
from cl_core.result import TaskResult
from cl_core.rng import Streams
from cl_core.scenarios import parse_scenario
from cl_core.stages import Boundaries, StageStore
from cl_core.state import State
from cl_core.task import Batch, Out, Task, no_rows
from cl_core.trainer import Training

SPEC = DataSpec("synthetic", classes=7, per_class=16)
CLASSES, SIZES = 7, (3, 2, 2)
TRAIN, VAL, TEST = 14, 2, 20  # rows a class
RECIPE: dict[str, Any] = {"epochs": 2, "batch": 16, "lr": 0.05}
DIM = 6  # features of `linear_state`
# Budgets that bind at these sizes; an image has 192 bytes.
BUDGET: dict[str, int] = {"exemplars_per_class": 10, "exemplars_total": 48, "exemplars_bytes": 48 * 192}


@lru_cache
def data(classes: int = 7, per_class: int = 16) -> Data:
    """The images, read once; shared by all tests, so nobody writes to them."""
    return load(DataSpec("synthetic", classes=classes, per_class=per_class))


def copied(source: Data) -> Data:
    """The same data set in memory of its own, which a test may overwrite; its fingerprint is the same."""
    return dataclasses.replace(source, train=Images(source.train.x.copy(), source.train.y.copy()))


def hp_of(method: str, **changes: Value) -> dict[str, Value]:
    """Tiny budgets where the method has them, and `changes`."""
    known = hparams(METHODS[method].HP)
    return {**{name: value for name, value in BUDGET.items() if name in known}, **changes}


def full_hp(method: str, **changes: Value) -> dict[str, Value]:
    """All hyperparameters of a tiny run by name."""
    return METHODS[method](hp_of(method, **changes)).values()


def variants() -> list[tuple[str, str]]:
    """(method, choices as JSON): every method as it is, and with every other option of its choices."""
    out = []
    for method in METHODS:
        out.append((method, "{}"))
        for param in hparams(METHODS[method].HP).values():
            if isinstance(param.domain, Choice):
                branch = {name: allowed[0] for name, allowed in param.when.items()}
                others = [option for option in param.domain.options if option != param.default]
                out += [(method, json.dumps({**branch, param.name: option})) for option in others]
    return out


def configuration(
    method: str,
    hp: dict[str, Value] | None = None,
    scenario: Any = "B3-2tasks",
    spec: DataSpec = SPEC,
    recipe: dict[str, Any] | None = None,
    **rest: Any,
) -> Configuration:
    """A tiny run of `method`; `recipe` is laid over `RECIPE`."""
    return Configuration(
        method=method,
        data=spec,
        scenario=parse_scenario(scenario),
        hp=hp_of(method, **(hp or {})),
        recipe={**RECIPE, **(recipe or {})},
        threads=1,
        device="cpu",
        **{"unsealed": True, **rest},
    )


@dataclass(frozen=True)
class Run:
    """A finished run and what it left after every task."""

    training: Training
    results: tuple[TaskResult, ...]
    states: tuple[dict[str, Tensor], ...]  # of State.tensors()

    @property
    def traces(self) -> list[Any]:
        """What must be equal bit for bit in equal runs, task by task."""
        return [trace(result) for result in self.results]


def train(
    settings: Configuration,
    source: Data | None = None,
    store: StageStore | None = None,
    resume: bool = False,
) -> Run:
    """Train to the end, keeping boundaries where the run may resume."""
    boundaries = Boundaries(store) if store is not None and resume else None
    training = Training(settings, source or data(), store, boundaries)
    results, states = [], []
    while not training.finished:
        results.append(training.next_task())
        states.append({name: tensor.clone() for name, tensor in training.state.tensors().items()})
        training.keep_boundary()
    return Run(training, tuple(results), tuple(states))


@cache
def _cached(method: str, hp: str, recipe: str) -> Run:
    return train(configuration(method, json.loads(hp), recipe=json.loads(recipe)))


def run(method: str, hp: dict[str, Value] | None = None, recipe: dict[str, Any] | None = None) -> Run:
    """A tiny run, trained once for all tests: read only."""
    return _cached(method, json.dumps(hp or {}, sort_keys=True), json.dumps(recipe or {}, sort_keys=True))


def counts(evaluation: Evaluation) -> tuple[Any, ...]:
    """An evaluation as values that compare by their bits."""
    values = (getattr(evaluation, field.name) for field in dataclasses.fields(evaluation))
    return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)


def trace(result: TaskResult) -> dict[str, Any]:
    """All of a task's result but what may differ between equal runs."""
    # The key follows every hyperparameter, acting or not; `hp` names them.
    volatile = {"seconds", "shared", "peak_memory_bytes", "key", "hp"}
    kept = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in volatile}
    return {**kept, "evaluations": [counts(e) for e in result.evaluations]}


def other_values(param: HParam, now: Value) -> list[Value]:
    """Values of a hyperparameter that differ from `now`."""
    if param.name in BUDGET:
        found: list[Value] = [int(now) // 2]
    elif isinstance(param.domain, Choice):
        found = list(param.domain.options)
    else:
        found = [param.domain.low, param.domain.high]  # type: ignore[union-attr]
    return [value for value in found if value != now]


def plain_net(shape: tuple[int, int, int], last_relu: bool) -> nn.Module:
    """A net of one's own without BatchNorm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 16), nn.ReLU())


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
        made = Network(backbone, LinearHead(DIM, 8), heads)
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
    return method.augment(state, Batch(x, torch.tensor(labels)), task, Streams(0, 1, ("train", 0, step)))


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
