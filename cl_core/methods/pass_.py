"""PASS: prototype augmentation and self-supervision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, probability
from cl_core.blocks.losses import feature_distance
from cl_core.blocks.prototypes import (
    STEPPED,
    Prototypes,
    draw_old_classes,
    keep_prototypes,
    keep_radius,
    prototypes_a_step,
)
from cl_core.blocks.rotations import check_square, interleaved, rotated, rotation_labels
from cl_core.hparams import Float, Value, hp, option
from cl_core.images.view import View
from cl_core.method import Base, Method, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("pass")
class PASS(Method):
    """Classify class and rotation; replay old classes as their mean feature plus noise.

    Output 4c + r is class c turned r times. The head that answers holds r = 0, the side head "rotated" the
    others. A prototype stays as it was at the end of its own task, and its loss trains the heads alone.
    Student and teacher see the same 4B views in one forward each. The official student forwards twice from
    the second task on: the same loss, but BatchNorm's statistics move twice per step. Every image counts in a
    prototype; the official code drops the last incomplete batch.
    """

    name, title = "pass", "PASS"
    paper = "Zhu et al., Prototype Augmentation and Self-Supervision, CVPR 2021"
    equation = (
        "L = CE(z/tau, 4y + r) + gamma CE(z(mu_c + r eps)/tau, 4c) + lambda ||F - F_old||_F, "
        "r^2 = mean_c tr(Sigma_c)/D"
    )
    paradigm, level, kind = "feature replay", "features", "instance feature"
    teacher = True
    memories = ()
    answers_with = ()  # prototypes serve training alone

    @dataclass(frozen=True)
    class HP(Prototypes):
        """The prototypes' weight and noise, and the views."""

        proto_weight: float = fields.stability_weight(
            10.0, 0.5, 50, doc="gamma of the prototypes' cross-entropy"
        )
        radius_scale: float = hp(1.0, Float(0.1, 3, log=True), doc="factor on the noise r of the prototypes")
        radius_mode: str = option(
            "first_task",
            "running_mean_all",
            acts_from=2,
            at_boundary=True,
            doc="r from the first task's classes (paper, official), or from all classes so far (PyCIL)",
        )
        proto_ratio: float = fields.proto_ratio()
        rotations: int = option(4, 1, acts_from=0, doc="views per image; 1: no self-supervision")

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        if self.hp.rotations > 1:
            check_square(shape, self.name)

    def base(self) -> Base:
        parameters = {"logit_temperature": self.hp.logit_temperature, "rotations": self.hp.rotations}
        side = {"rotated": 3} if self.hp.rotations > 1 else {}
        return Base("rotations", parameters=parameters, recipe=STEPPED, side_heads=side)

    def recipe(self) -> Mapping[str, Value]:
        return STEPPED

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        if not task.index:
            return b
        classes = draw_old_classes(task, prototypes_a_step(task, self.hp.proto_ratio), g)
        dim = s.kept["prototypes"].shape[1]
        noise = torch.randn(len(classes), dim, generator=g("prototypes", "noise"))
        return b._replace(
            drawn={
                "class": classes.to(b.x.device, non_blocking=True),
                "noise": noise.to(b.x.device, non_blocking=True),
            }
        )

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        tau, k = self.hp.logit_temperature, self.hp.rotations
        x, y = rotated(b.x, k), rotation_labels(b.y, k)  # [kB, C, H, H], [kB]
        out = s.net(x)
        terms = {"ce": Term(F.cross_entropy(self._outputs(s, out.features, out.logits) / tau, y))}
        if s.teacher is None:
            return terms
        c = b.drawn["class"]  # [P]
        radius = self.hp.radius_scale * s.kept["radius"]
        phi = s.kept["prototypes"][c] + radius * b.drawn["noise"]  # [P, D]
        z = self._outputs(s, phi, s.net.head(phi).float())
        terms["prototype"] = Term(F.cross_entropy(z / tau, k * c), self.hp.proto_weight)
        if self.hp.distill:
            distance = feature_distance(out.features, s.teacher(x).features)
            terms["feature_kd"] = Term(distance, self.hp.kd_weight)
        return terms

    def _outputs(self, s: State, features: Tensor, z: Tensor) -> Tensor:
        # [N, kn] from features [N, D] and their unrotated logits [N, n].
        if self.hp.rotations == 1:
            return z
        return interleaved(z, s.net.side["rotated"](features).float())

    def reading(self, scores: Tensor) -> Reading:
        return probability(scores, self.hp.logit_temperature)

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        features = keep_prototypes(s, data, task, self.hp.proto_transform, g)
        keep_radius(s, features, task, self.hp.radius_mode)
