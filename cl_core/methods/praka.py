"""PRAKA: prototype reminiscence and augmented asymmetric knowledge aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, probability
from cl_core.blocks.losses import feature_distance, kd
from cl_core.blocks.prototypes import ADAM, Prototypes, draw_old_classes, keep_prototypes
from cl_core.blocks.rotations import check_square, matched, rotated, rotation_labels
from cl_core.hparams import Float, Value, hp
from cl_core.images.view import View
from cl_core.method import Base, Method, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

_RECIPE: Mapping[str, Value] = {**ADAM, "batch": 128, "schedule": "cosine"}


@register("praka")
class PRAKA(Method):
    """A head over classes and rotations teaches the head that answers; prototypes mixed with features replay.

    The side head "rotated" has 4n outputs, 4c + r for class c turned r times. The head that answers sees
    unrotated images alone. The target of both KL terms has no gradient, and temperature 1. A prototype mixes
    with the feature of any of the 4B views, without gradient. The official schedule, T_max 32 in 100 epochs,
    is `recipe.period: 0.32`; by default the rate falls once. Every image counts in a prototype; the official
    code drops the last incomplete batch.
    """

    name, title = "praka", "PRAKA"
    paper = "Shi & Ye, Prototype Reminiscence and Augmented Asymmetric Knowledge Aggregation, ICCV 2023"
    equation = (
        "L = CE(g/tau, 4y + r) + CE(h/tau, y) + KL(mean_r g[4c + r] || h) + lambda_p L_pr(phi) "
        "+ lambda ||F - F_old||_F, phi = mu_c + m (f - mu_c)"
    )
    paradigm, level, kind = "feature replay", "features", "instance feature"
    teacher = True
    memories = ()
    answers_with = ()  # prototypes serve training alone

    @dataclass(frozen=True)
    class HP(Prototypes):
        """Weights of the terms, and the mixing of prototypes."""

        kd_weight: float = fields.stability_weight(
            15.0,
            0.1,
            100,
            when=fields.DISTILLING,
            doc="lambda of ||F - F_old||_F, which grows with the root of the views: 15 at a batch of 128",
        )
        proto_weight: float = fields.stability_weight(15.0, 0.5, 50, doc="lambda_p of the prototypes' loss")
        beta_a: float = hp(0.5, Float(0.1, 5, log=True), doc="a of the mixing weight's Beta(a, a)")
        mix_threshold: float = hp(
            0.6,
            Float(0.3, 1),
            searched=False,
            doc="mixing weights above are multiplied by mix_shrink (official)",
        )
        mix_shrink: float = hp(0.6, Float(0.3, 1), searched=False, doc="see mix_threshold")
        p_extrapolate: float = hp(
            0.5, Float(0, 1), searched=False, doc="chance of moving away from the feature"
        )
        single_weight: float = hp(
            1.0, Float(0.1, 10, log=True), acts_from=0, searched=False, doc="of CE(h/tau, y); paper 1"
        )
        aka_weight: float = hp(
            1.0, Float(0.1, 10, log=True), acts_from=0, searched=False, doc="of KL(joint || single); paper 1"
        )

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        check_square(shape, self.name)

    def base(self) -> Base:
        names = ("logit_temperature", "single_weight", "aka_weight")
        parameters = {name: getattr(self.hp, name) for name in names}
        return Base("rotations-single", parameters=parameters, recipe=_RECIPE, side_heads={"rotated": 4})

    def recipe(self) -> Mapping[str, Value]:
        return _RECIPE

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        if not task.index:
            return b
        n, a = len(b.y), self.hp.beta_a  # one prototype per image
        view = torch.randint(0, 4 * n, (n,), generator=g("prototypes", "view"))
        mix = torch.from_numpy(np.random.default_rng(g("prototypes", "mix").initial_seed()).beta(a, a, n))
        mix = torch.where(mix > self.hp.mix_threshold, self.hp.mix_shrink * mix, mix)
        away = torch.rand(n, generator=g("prototypes", "away")) < self.hp.p_extrapolate
        mix = torch.where(away, -mix, mix).float()
        drawn = {"class": draw_old_classes(task, n, g), "view": view, "mix": mix}
        return b._replace(drawn={name: t.to(b.x.device, non_blocking=True) for name, t in drawn.items()})

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        tau, joint = self.hp.logit_temperature, s.net.side["rotated"]
        x = rotated(b.x)  # [4B, C, H, H]
        out = s.net(x)
        g = joint(out.features).float()  # [4B, 4n]
        h = out.logits[::4]  # [B, n], of the unrotated images
        terms = {
            "joint": Term(F.cross_entropy(g / tau, rotation_labels(b.y))),
            "ce": Term(F.cross_entropy(h / tau, b.y), self.hp.single_weight),
            "aka": Term(kd(h, matched(g).detach(), 1.0), self.hp.aka_weight),
        }
        if s.teacher is None:
            return terms
        c = b.drawn["class"]  # [B]
        mu, f = s.kept["prototypes"][c], out.features.detach()[b.drawn["view"]]  # [B, D] both
        # (1 - m) mu + m f with m > 0, (1 + |m|) mu - |m| f with m < 0.
        phi = mu + b.drawn["mix"][:, None] * (f - mu)
        g, h = joint(phi).float(), s.net.head(phi).float()
        replayed = F.cross_entropy(h / tau, c) + F.cross_entropy(g / tau, 4 * c)
        terms["prototype"] = Term(replayed + kd(h, g[:, ::4].detach(), 1.0), self.hp.proto_weight)
        if self.hp.distill:
            distance = feature_distance(out.features, s.teacher(x).features)
            terms["feature_kd"] = Term(distance, self.hp.kd_weight)
        return terms

    def reading(self, scores: Tensor) -> Reading:
        return probability(scores, self.hp.logit_temperature)

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        keep_prototypes(s, data, task, self.hp.proto_transform, g)
