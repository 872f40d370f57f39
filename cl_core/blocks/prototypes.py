"""Prototypes: the mean feature of each class, kept after its task and drawn at every later step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_core.blocks import fields
from cl_core.blocks.exemplars import features_of
from cl_core.hparams import Float, Value, hp, option
from cl_core.images.augment import draw
from cl_core.images.view import EVALUATION_BATCH, View
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task

ADAM: Mapping[str, Value] = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 2e-4}
"""The optimiser of the official codes of PASS, IL2A and PRAKA."""

STEPPED: Mapping[str, Value] = {**ADAM, "batch": 64, "schedule": "step", "milestones": "0.45,0.9"}
"""The recipe of PASS and IL2A: the official StepLR(45, 0.1) of 101 epochs."""


@dataclass(frozen=True)
class Prototypes:
    """Hyperparameters of methods that keep prototypes, a base class for their own."""

    kd_weight: float = fields.stability_weight(
        10.0,
        0.1,
        100,
        when=fields.DISTILLING,
        doc="lambda of ||F - F_old||_F, which grows with the root of the views: 10 at a batch of 64",
    )
    proto_transform: str = option(
        "training",
        "evaluation",
        at_boundary=True,
        doc="images behind a prototype: under the training augmentation (official code) or not (PyCIL)",
    )
    logit_temperature: float = hp(
        0.1, Float(0.05, 1, log=True), acts_from=0, searched=False, doc="tau of every cross-entropy"
    )
    distill: bool = fields.distill("without the feature distance; all else stays")


@torch.no_grad()
def class_features(net: Network, data: View, rows: Tensor, transform: str, g: Streams) -> Tensor:
    """Return features [n, D] of training rows [n] from the network in evaluation mode.

    `transform` "evaluation" reads the images as they are; "training" augments each once, with draws from `g`.
    Every row counts, whereas the official codes drop the last incomplete batch.
    """
    if transform == "evaluation":
        return features_of(net, data, rows)
    draws = draw(data.data.augment, len(rows), g, (), data.device)
    was_training = net.training
    net.eval()
    parts = []
    for start in range(0, len(rows), EVALUATION_BATCH):
        part = rows[start : start + EVALUATION_BATCH]
        parts += [net(b.x).features for b in data.epoch([part], draws.at(start, start + len(part)))]
    net.train(was_training)
    return torch.cat(parts)


def keep_prototypes(s: State, data: View, task: Task, transform: str, g: Streams) -> list[Tensor]:
    """Append the mean feature of each new class to `s.kept["prototypes"]` [seen, D]; older rows stay.

    Return the features [n_c, D] of each new class in arrival order.
    """
    features = [
        class_features(s.net, data, data.rows([c]), transform, g.at("prototypes", c))
        for c in range(task.old, task.seen)
    ]
    new = torch.stack([f.double().mean(dim=0).float() for f in features])
    s.kept["prototypes"] = torch.cat([s.kept["prototypes"], new]) if task.index else new
    return features


def keep_radius(s: State, features: Sequence[Tensor], task: Task, mode: str) -> None:
    """Keep the spread of features [n_c, D] around their class mean as the scalar `s.kept["radius"]` (PASS).

    r^2 is the mean over classes of tr(Sigma_c)/D. "first_task" fixes it after the first task;
    "running_mean_all" is PyCIL's mean over all classes so far, each under the network of its own task.
    """
    if mode == "first_task" and task.index:
        return
    total = torch.stack([variance(f) for f in features]).sum()
    if task.index:
        total = total + task.old * s.kept["radius"].double().square()
    s.kept["radius"] = (total / task.seen).sqrt().float()


def variance(features: Tensor) -> Tensor:
    """Return tr(Sigma)/D of features [n, D], unbiased; 0 for one sample. Scalar, float64."""
    centred = features.double() - features.double().mean(dim=0)
    return centred.square().sum() / (max(1, len(features) - 1) * features.shape[1])


def draw_old_classes(task: Task, n: int, g: Streams) -> Tensor:
    """Draw n old classes, uniformly and with replacement, [n] int64 on the CPU."""
    return torch.randint(0, task.old, (n,), generator=g("prototypes", "class"))


def prototypes_a_step(task: Task, ratio: float) -> int:
    """Return the number of prototypes that a step draws: `ratio` times the recipe's batch, at least one.

    It depends neither on the images of the step nor on the numbers of old and new classes.
    """
    return max(1, round(ratio * task.recipe.batch))
