"""IL2A: class-incremental learning via dual augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, probability
from cl_core.blocks.classmix import ONE_CLASS, class_mix, draw_mix, pairs
from cl_core.blocks.isda import covariance, semantic_logits
from cl_core.blocks.losses import feature_distance
from cl_core.blocks.prototypes import (
    STEPPED,
    Prototypes,
    draw_old_classes,
    keep_prototypes,
    prototypes_a_step,
)
from cl_core.hparams import Float, Int, Value, hp
from cl_core.images.view import View
from cl_core.method import Base, Method, Phase, Rows, register
from cl_core.nets.network import LinearHead
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

_MIXES = {"classaug_times": (1, 2, 3, 4)}


@register("il2a")
class IL2A(Method):
    """Mixtures of two new classes are further classes; old classes are replayed as mean and covariance.

    The head rows of the pairs last for one task, and pairs never answer. Batches of one size have equally
    many mixtures, whatever their labels. Where too few are of two classes, mixtures of one class fill the
    batch: no loss counts them, but BatchNorm sees them. L_sem draws as many old classes as a batch has
    images, and trains the head alone. Tau divides after the variance is added, as in the official code, so
    L_sem is no upper bound of the expected cross-entropy. The official student forwards twice per step from
    the second task on, here once. Its covariances are mixed up from the third task on, and its prototypes
    lack the last incomplete batch; here neither.
    """

    name, title = "il2a", "IL2A"
    paper = "Zhu et al., Class-Incremental Learning via Dual Augmentation, NeurIPS 2021"
    equation = (
        "L = CE(z/tau, y or pair) + lambda ||F - F_old||_F + alpha CE(v/tau, c), "
        "v_j = w_j mu_c + b_j + rho/2 (w_j - w_c)^T Sigma_c (w_j - w_c)"
    )
    paradigm, level, kind = "feature replay", "features", "instance feature"
    teacher = True
    memories = ()
    answers_with = ()  # prototypes serve training alone

    @dataclass(frozen=True)
    class HP(Prototypes):
        """The semantic loss and the mixing of classes."""

        semantic_weight: float = fields.stability_weight(10.0, 0.5, 50, doc="alpha of L_sem")
        isda_ratio: float = hp(2.5, Float(0.1, 10, log=True), doc="rho of the variance in L_sem")
        proto_ratio: float = fields.proto_ratio()
        classaug_times: int = hp(
            4,
            Int(0, 4),
            acts_from=0,
            searched=False,
            doc="mixtures per image, without those of one class; 0: no class augmentation",
        )
        classaug_beta: float = hp(
            20.0,
            Float(1, 50, log=True),
            acts_from=0,
            searched=False,
            when=_MIXES,
            doc="a of an image's share lambda ~ Beta(a, a) in a mixture",
        )
        classaug_clip: float = hp(
            0.1,
            Float(0.0, 0.5),
            acts_from=0,
            searched=False,
            when=_MIXES,
            doc="shares further than this from one half become one half (official code)",
        )

    def base(self) -> Base:
        names = ["logit_temperature", "classaug_times"]
        names += ["classaug_beta", "classaug_clip"] if self.hp.classaug_times else []
        return Base("class-mix", parameters={n: getattr(self.hp, n) for n in names}, recipe=STEPPED)

    def recipe(self) -> Mapping[str, Value]:
        return STEPPED

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        super().begin(s, task, data, g)
        if self.hp.classaug_times and task.new > 1:
            rows = LinearHead(s.head.weight.shape[1], pairs(task.new))
            rows.open(0, pairs(task.new), g("head", "pairs"))
            rows.to(s.head.weight.device)
            s.local.update(pair_weight=rows.weight, pair_bias=rows.bias)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        params = (*s.net.parameters(), *s.local.values())
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss, params=params)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        x, y, drawn, rows = b.x, b.y, dict(b.drawn), b.rows
        if s.local:
            mix = draw_mix(len(y), self.hp.classaug_times, self.hp.classaug_beta, self.hp.classaug_clip, g)
            mixed, labels = class_mix(x, y, mix, task.old, task.new)
            x, y = torch.cat([x, mixed]), torch.cat([y, labels])
            rows = torch.cat([rows, rows.new_full((len(labels),), -1)])
        if task.index:
            count = prototypes_a_step(task, self.hp.proto_ratio)
            drawn["class"] = draw_old_classes(task, count, g).to(x.device, non_blocking=True)
        return Batch(x, y, drawn, rows)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        tau = self.hp.logit_temperature
        f, z, _ = s.net(b.x)  # [N, D], [N, n] of real and mixed images
        if s.local:
            z = torch.cat([z, F.linear(f, s.local["pair_weight"], s.local["pair_bias"]).float()], dim=1)
        terms = {"ce": Term(F.cross_entropy(z / tau, b.y, ignore_index=ONE_CLASS))}
        if s.teacher is None:
            return terms
        if self.hp.distill:
            counts = (b.y != ONE_CLASS)[:, None]
            distance = feature_distance(f * counts, s.teacher(b.x).features * counts)
            terms["feature_kd"] = Term(distance, self.hp.kd_weight)
        c = b.drawn["class"]  # [P]
        mu, sigma = s.kept["prototypes"][c], s.kept["covariances"][c]
        w, bias = (rows[: task.seen] for rows in s.head.rows())
        v = semantic_logits(mu, sigma, c, w, bias, self.hp.isda_ratio)  # [P, n]
        terms["semantic"] = Term(F.cross_entropy(v / tau, c), self.hp.semantic_weight)
        return terms

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        features = keep_prototypes(s, data, task, self.hp.proto_transform, g)
        new = torch.stack([covariance(f) for f in features])
        s.kept["covariances"] = torch.cat([s.kept["covariances"], new]) if task.index else new

    def reading(self, scores: Tensor) -> Reading:
        return probability(scores, self.hp.logit_temperature)

    def note(self, task: Task) -> str | None:
        return "one new class: no mixed images" if self.hp.classaug_times and task.new == 1 else None
