"""iCaRL: incremental classifier and representation learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, distance, nearest_mean, probability, sigmoid
from cl_core.blocks.exemplars import class_means, update_exemplars
from cl_core.blocks.losses import kd
from cl_core.hparams import Value, hparams, option
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Base, Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

# The official learning rate 2.0 belongs to the mean over all 100 outputs of CIFAR-100, unseen ones included,
# and its L2 term has no factor one half.
_OUTPUTS = 100
_SIGMOID_RECIPE: Mapping[str, Mapping[str, Value]] = {
    "sum": {"lr": 0.02, "weight_decay": 2e-3},
    "mean": {"lr": 2.0, "weight_decay": 2e-5},
}
_BCE_TARGETS: fields.Branch = {"loss": ("bce",), **fields.DISTILLING}
_CE_TARGETS: fields.Branch = {"loss": ("ce",), **fields.DISTILLING}


@register("icarl")
class ICaRL(Method):
    """Sigmoid cross-entropy with the teacher's sigmoids as targets of the old outputs; nearest-mean answers.

    In the BCE form (the paper) the old outputs learn from the teacher, not from an exemplar's label, unless
    `distill` is off. The CE form is a common variant: cross-entropy over all seen classes, and softened
    distillation. The official CIFAR net has no ReLU before the pooling, so the sigmoid family has none.
    Weight decay acts on all parameters, officially on the weights of layers alone. A class has no output
    before its task; the official code trains those of future classes towards zero. Herding picks no image
    twice.
    """

    name, title = "icarl", "iCaRL"
    paper = "Rebuffi et al., iCaRL, CVPR 2017 (arXiv 1611.07725)"
    equation = (
        "eq. 1: sum_new BCE(g_c, 1[y=c]) + sum_old BCE(g_c, q_c); Alg. 1 (nearest mean), Alg. 4 (herding)"
    )
    paradigm, level, kind = "data replay", "logits", "probability matching"
    teacher = True

    @dataclass(frozen=True)
    class HP(Budget):
        """Form of the loss, and the rule that answers."""

        # The class means of the first task are already those of its exemplars.
        ACTS_FROM: ClassVar[Mapping[str, int]] = dict.fromkeys(hparams(Budget), 0)

        loss: str = option("bce", "ce", acts_from=0, doc="paper's eq. 1, or the CE variant")
        reduction: str = option(
            "sum",
            "mean",
            acts_from=0,
            when={"loss": ("bce",)},
            doc="of the seen outputs: the sum, or a hundredth of it (the official code's mean over 100)",
        )
        distill: bool = fields.distill(
            "no teacher's targets; the BCE form needs others for the old outputs, the CE form none"
        )
        old_targets: str = option(
            "labels",
            "none",
            when={"loss": ("bce",), "distill": (False,)},
            doc="targets of the old outputs: labels (BCE over all seen classes), or no loss on them",
        )
        old_weight: float = fields.stability_weight(
            1.0, 0.1, 10, when=_BCE_TARGETS, doc="weight of the old outputs' BCE; the paper's is 1"
        )
        kd_weight: float = fields.stability_weight(
            0.25, 0.02, 10, when=_CE_TARGETS, doc="of the CE form; PyCIL 1 without T^2"
        )
        temperature: float = fields.temperature("T of the CE form", when=_CE_TARGETS)
        classifier: str = fields.classifier("nearest-mean", "head")
        flip_means: bool = option(
            True,
            False,
            answers=True,
            doc="class means include mirrored exemplars, if the data set's augmentation mirrors",
        )

    def base(self) -> Base:
        if self.hp.loss == "ce":
            return Base()
        parameters, recipe = {"reduction": self.hp.reduction}, _SIGMOID_RECIPE[self.hp.reduction]
        return Base("sigmoid", last_relu=False, parameters=parameters, recipe=recipe)

    def recipe(self) -> Mapping[str, Value]:
        return _SIGMOID_RECIPE[self.hp.reduction] if self.hp.loss == "bce" else {}

    def primary(self) -> str:
        return str(self.hp.classifier)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = torch.cat([task.rows, s.memory.ids()])
        yield Phase("train", (Rows(rows),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        z_old = s.teacher(b.x).logits if s.teacher is not None and self.hp.distill else None  # [B, old]
        if self.hp.loss == "ce":
            terms = {"ce": Term(F.cross_entropy(z, b.y))}
            if z_old is not None:
                terms["kd"] = Term(kd(z[:, : task.old], z_old, self.hp.temperature), self.hp.kd_weight)
            return terms
        divisor = len(b.y) * (_OUTPUTS if self.hp.reduction == "mean" else 1)
        labels = F.one_hot(b.y, task.seen).to(z.dtype)
        # New outputs: an exemplar is a negative of every new class, whatever its label.
        new = F.binary_cross_entropy_with_logits(z[:, task.old :], labels[:, task.old :], reduction="sum")
        terms = {"bce": Term(new / divisor)}
        if z_old is not None:
            old = F.binary_cross_entropy_with_logits(z[:, : task.old], z_old.sigmoid(), reduction="sum")
            terms["bce_old"] = Term(old / divisor, self.hp.old_weight)
        elif task.index and self.hp.old_targets == "labels":
            old = F.binary_cross_entropy_with_logits(z[:, : task.old], labels[:, : task.old], reduction="sum")
            terms["bce_old"] = Term(old / divisor)
        return terms

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)
        # For every class: training has moved the old means too.
        flip = bool(self.hp.flip_means) and data.data.augment.flip
        s.kept["class_means"] = class_means(s.net, data, s.memory, flip)

    def reading(self, scores: Tensor) -> Reading:
        if self.hp.classifier == "nearest-mean":
            return distance(scores)
        return sigmoid(scores) if self.hp.loss == "bce" else probability(scores)

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        out = s.net(x)
        return {"head": out.logits, "nearest-mean": nearest_mean(out.features, s.kept["class_means"])}
