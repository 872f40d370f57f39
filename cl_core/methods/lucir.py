"""LUCIR: learning a unified classifier incrementally via rebalancing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, distance, nearest_mean, probability
from cl_core.blocks.cosine import imprint, margin_ranking, scaled
from cl_core.blocks.exemplars import class_means, update_exemplars
from cl_core.blocks.losses import feature_cosine
from cl_core.hparams import Float, Int, Value, hp, hparams, option
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Base, Method, Phase, Rows, register
from cl_core.nets.network import CosineHead, Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("lucir")
class LUCIR(Method):
    """Cosine logits, a teacher for the direction of the features, a margin between exemplars and new classes.

    New head rows start as the mean direction of their class. Old rows are frozen, the scale eta is not. There
    is no ReLU before the pooling. The nearest-mean rule uses one view: the official second view reverses
    colour channels by accident.
    """

    name, title = "lucir", "LUCIR"
    paper = "Hou et al., Learning a Unified Classifier Incrementally via Rebalancing, CVPR 2019"
    equation = (
        "sec. 3.2-3.4: CE(eta s, y) + lambda sqrt(n_old/n_new) mean(1 - <f, f_old>) "
        "+ w mean_{y old, k in top-K new} max(0, m - s_y + s_k), s_c = <f, w_c>, all unit vectors"
    )
    paradigm, level, kind = "data replay", "features", "instance feature"
    teacher = True

    @dataclass(frozen=True)
    class HP(Budget):
        """Scale, distillation, margin ranking, head rows, and the rule that answers."""

        # The nearest-mean rule reads exemplars of the first task already.
        ACTS_FROM: ClassVar[Mapping[str, int]] = dict.fromkeys(hparams(Budget), 0)

        eta: float = hp(1.0, Float(1, 30, log=True), acts_from=0, searched=False, doc="initial scale eta")
        kd_weight: float = fields.stability_weight(
            5.0, 0.5, 30, when=fields.DISTILLING, doc="of less-forget: 5 on CIFAR-100, 10 on ImageNet"
        )
        kd_schedule: str = option("sqrt", "const", when=fields.DISTILLING, doc="sqrt: x sqrt(n_old/n_new)")
        margin: float = hp(0.5, Float(0.05, 1), doc="m, on cosines")
        margin_weight: float = hp(1.0, Float(0.1, 10, log=True), doc="of the margin ranking")
        n_negatives: int = hp(2, Int(1, 5), searched=False, doc="K nearest new classes")
        imprint: bool = option(True, False, doc="new rows from class means, or random (FACIL)")
        train_old_head: bool = option(False, True, doc="on: the head's old rows train")
        cbf: bool = option(False, True, doc="on: then train the head on exemplars (ImageNet code)")
        cbf_epochs: float = hp(
            0.22, Float(0.01, 1), searched=False, when={"cbf": (True,)}, doc="share of the task's: 20 of 90"
        )
        cbf_lr: float = hp(
            0.01, Float(1e-4, 0.05, log=True), searched=False, when={"cbf": (True,)}, doc="/10 at half"
        )
        classifier: str = fields.classifier("head", "nearest-mean")
        distill: bool = fields.distill("without the less-forget term")
        without: str = option(
            "term", "official", when={"distill": (False,)}, doc="official: also no margin and no frozen rows"
        )

    def base(self) -> Base:
        return Base("cosine", head="cosine", last_relu=False, parameters={"eta": self.hp.eta})

    def primary(self) -> str:
        return str(self.hp.classifier)

    def build(self, make: Callable[[], Network]) -> State:
        return super().build(lambda: scaled(make(), self.hp.eta))

    @property
    def _rebalances(self) -> bool:
        # True: margin ranking and frozen old rows.
        return self.hp.distill or self.hp.without == "term"

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        super().begin(s, task, data, g)
        if task.index and self.hp.imprint:
            imprint(s.net, data, task)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = (Rows(torch.cat([task.rows, s.memory.ids()])),)
        frozen = task.index and self._rebalances and not self.hp.train_old_head
        kept = (task.old, task.seen) if frozen else None
        yield Phase("train", rows, task.recipe, self.loss, head_rows=kept)
        if task.index and self.hp.cbf:
            update_exemplars(self.hp, s.memory, s.net, data, task, g)
            rows, head = (Rows(s.memory.ids()),), (s.head.weight,)
            recipe = self.balanced_recipe(task.recipe)
            yield Phase("balanced", rows, recipe, self.balanced_loss, params=head, train_mode=False)

    def balanced_recipe(self, stage1: Recipe) -> Recipe:
        """The recipe of the balanced stage, from that of the task (official code for ImageNet)."""
        schedule: dict[str, Value] = {"schedule": "step", "gamma": 0.1, "milestones": "0.5"}
        return stage1.stage(self.hp.cbf_epochs, optimizer="sgd", lr=self.hp.cbf_lr, momentum=0.9, **schedule)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        f = s.net(b.x).features  # [B, D]
        terms = self._of_the_head(s, f, b.y, task)
        if s.teacher is not None and self.hp.distill:
            growth = math.sqrt(task.old / task.new) if self.hp.kd_schedule == "sqrt" else 1.0
            value = feature_cosine(f, s.teacher(b.x).features)
            terms["feature_kd"] = Term(value, self.hp.kd_weight * growth)
        return terms

    def balanced_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The loss of the balanced stage: the head's terms on fixed features."""
        with torch.no_grad():
            f = s.net(b.x).features
        return self._of_the_head(s, f, b.y, task)

    def _of_the_head(self, s: State, f: Tensor, y: Tensor, task: Task) -> dict[str, Term]:
        head = cast(CosineHead, s.net.head)
        cosines = head.similarity(f).float()  # [B, seen]
        terms = {"ce": Term(F.cross_entropy(head.eta * cosines, y))}
        if task.index and self._rebalances:
            value = margin_ranking(cosines, y, task.old, self.hp.n_negatives, self.hp.margin)
            terms["margin"] = Term(value, self.hp.margin_weight)
        return terms

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)
        s.kept["class_means"] = class_means(s.net, data, s.memory, flip=False)

    def reading(self, scores: Tensor) -> Reading:
        return distance(scores) if self.hp.classifier == "nearest-mean" else probability(scores)

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        out = s.net(x)
        return {"head": out.logits, "nearest-mean": nearest_mean(out.features, s.kept["class_means"])}
