"""Runs of a tenth of a second: 7 classes of 8x8 colour images in 3 unequal tasks, 14 training rows each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from cl_core.hparams import Choice, HParam, Value, hparams
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data, Images
from cl_core.images.loading import load
from cl_core.method import END, METHODS
from cl_core.records import PhaseValue
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.adaptive_options import Proposer
from cl_core.training.captured import Recorder
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.configuration import Configuration
from cl_core.training.epoch_checkpoint import TaskLeft
from cl_core.training.evaluation import Evaluation
from cl_core.training.events import Watch, ignore
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training

SPEC = DataSpec("synthetic", classes=7, per_class=16)
CLASSES, SIZES = 7, (3, 2, 2)
TRAIN, VAL, TEST = 14, 2, 20  # rows a class
RECIPE: dict[str, Any] = {"epochs": 2, "batch": 16, "lr": 0.05}
# Budgets that bind at these sizes, narrow generators, few made images, a path a task; an image has 192 bytes.
BUDGET: dict[str, int] = {
    "exemplars_per_class": 10,
    "exemplars_total": 48,
    "exemplars_bytes": 48 * 192,
    "generator_width": 16,
    "recovered_per_class": 6,
    "gan_width": 8,
    "jump": 1,
    "wae_width": 8,
    "latent": 4,
    "adapter_width": 16,
}


@lru_cache
def data(classes: int = 7, per_class: int = 16) -> Data:
    """Return the images, read once. All tests share them, so none may write to them."""
    return load(DataSpec("synthetic", classes=classes, per_class=per_class))


def copied(source: Data) -> Data:
    """Return a copy of a data set that a test may overwrite; the fingerprint is the same."""
    return dataclasses.replace(source, train=Images(source.train.x.copy(), source.train.y.copy()))


def contents(data: Data, split: str) -> set[tuple[str, bytes]]:
    """Return (class name, pixels) of every image of a split."""
    images = data.train if split == "train" else data.test
    if images is None:
        return set()
    return {(data.class_names[y], x.tobytes()) for x, y in zip(images.x, images.y, strict=True)}


def hp_of(method: str, **changes: Value) -> dict[str, Value]:
    """Return tiny budgets and sizes, if the method has any, and `changes`."""
    known = hparams(METHODS[method].HP)
    return {**{name: value for name, value in BUDGET.items() if name in known}, **changes}


def full_hp(method: str, **changes: Value) -> dict[str, Value]:
    """Return all hyperparameters of a tiny run by name."""
    return METHODS[method](hp_of(method, **changes)).values()


def variants(method: str) -> list[dict[str, Value]]:
    """Return the hyperparameters of a method by default, and with every other option of its choices."""
    out: list[dict[str, Value]] = [{}]
    for param in hparams(METHODS[method].HP).values():
        if isinstance(param.domain, Choice):
            branch = {name: allowed[0] for name, allowed in param.when.items()}
            others = [option for option in param.domain.options if option != param.default]
            out += [{**branch, param.name: option} for option in others]
    return out


def configuration(
    method: str,
    hp: dict[str, Value] | None = None,
    scenario: Any = "B3-2tasks",
    spec: DataSpec = SPEC,
    recipe: dict[str, Any] | None = None,
    **rest: Any,
) -> Configuration:
    """Return the configuration of a tiny run; `recipe` replaces values of `RECIPE`."""
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
    """A finished run, with its results and tensors after every task."""

    training: Training
    results: tuple[TaskResult, ...]
    states: tuple[dict[str, Tensor], ...]  # of State.tensors()

    @property
    def traces(self) -> list[Any]:
        """The values that equal runs share bit for bit, a mapping for each task."""
        return [trace(result) for result in self.results]


def train(
    settings: Configuration,
    source: Data | None = None,
    store: CheckpointStore | None = None,
    resume: bool = False,
    watch: Watch = ignore,
    proposer: Proposer | None = None,
    reuse: CheckpointStore | None = None,
    capture: bool = True,
) -> Run:
    """Train to the end and return the run. With `resume`, keep resume checkpoints in `store`."""
    own = ResumeCheckpoints(store) if store is not None and resume else None
    training = Training(
        settings,
        source or data(),
        store,
        own,
        watch=watch,
        proposer=proposer,
        reuse=reuse,
        capture=capture,
    )
    results, states = [], []
    while not training.finished:
        results.append(training.next_task())
        states.append({name: tensor.clone() for name, tensor in training.state.tensors().items()})
        training.keep_resume_checkpoint()
    return Run(training, tuple(results), tuple(states))


def train_in_pieces(
    settings: Configuration,
    store: CheckpointStore,
    most: int = 12,
    proposer: Proposer | None = None,
    record: Recorder | None = None,
    source: Data | None = None,
) -> tuple[Run, int]:
    """Train to the end, but leave a task at the end of an epoch `most` times; continue with a new Training.

    Return the run, and how often it was left.
    """
    left = 0

    def begun() -> Training:
        own = ResumeCheckpoints(store, "run", 0.0, lambda: 0.0 if left < most else None)
        training = Training(settings, source or data(), None, own, proposer=proposer)
        training.learner = dataclasses.replace(training.learner, record=record)
        return training

    training = begun()
    results, states = [], []
    while not training.finished:
        try:
            results.append(training.next_task())
        except TaskLeft:
            left += 1
            training = begun()
            continue
        states.append({name: tensor.clone() for name, tensor in training.state.tensors().items()})
        training.keep_resume_checkpoint()
    return Run(training, tuple(results), tuple(states)), left


@cache
def _cached(method: str, hp: str, recipe: str) -> Run:
    return train(configuration(method, json.loads(hp), recipe=json.loads(recipe)))


def run(method: str, hp: dict[str, Value] | None = None, recipe: dict[str, Any] | None = None) -> Run:
    """Return a tiny run, trained once for all tests: read only."""
    return _cached(method, json.dumps(hp or {}, sort_keys=True), json.dumps(recipe or {}, sort_keys=True))


def counts(evaluation: Evaluation) -> tuple[Any, ...]:
    """Return an evaluation as values that compare by their bits."""
    values = (getattr(evaluation, field.name) for field in dataclasses.fields(evaluation))
    return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)


def trace(result: TaskResult) -> dict[str, Any]:
    """Return a task's result without the values that may differ between equal runs."""
    # The checkpoint follows every hyperparameter, acting or not; `hp` names them.
    volatile = {"seconds", "shared", "peak_memory_bytes", "checkpoint", "hp"}
    kept = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in volatile}
    return {**kept, "evaluations": [counts(e) for e in result.evaluations]}


def training_phases(result: TaskResult) -> list[PhaseValue]:
    """Return the values of the phases that train the network, without those of `Method.end_phases`."""
    return [value for value in result.phases if not value.phase.startswith(END)]


def other_values(param: HParam, now: Value) -> list[Value]:
    """Return values of a hyperparameter that differ from `now`."""
    if param.name in BUDGET:
        found: list[Value] = [int(now) // 2 or 2]
    elif isinstance(param.domain, Choice):
        found = list(param.domain.options)
    else:
        found = [param.domain.low, param.domain.high]  # type: ignore[union-attr]
    return [value for value in found if value != now]


def pair(method: str, name: str) -> tuple[dict[str, Value], list[dict[str, Value]]]:
    """Return hyperparameters in the branch where `name` is active, and copies with other values of it."""
    known = hparams(METHODS[method].HP)
    base: dict[str, Value] = {}
    for other, allowed in known[name].when.items():
        if known[other].default not in allowed:
            base[other] = allowed[0]
    now = full_hp(method, **base)[name]
    return base, [{**base, name: value} for value in other_values(known[name], now)]
