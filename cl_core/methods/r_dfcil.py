"""R-DFCIL: relation-guided representation learning without stored data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.inversion import Inversion, made_labels
from cl_core.blocks.losses import fallback_note, logit_l1, new_only, relation_angle_l1
from cl_core.hparams import Float, Value, hp
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams, global_stream
from cl_core.state import State
from cl_core.task import Batch, Task, Term


def scales(task: Task) -> tuple[float, float]:
    """Return alpha = log2(n_new/2 + 1) and beta = sqrt(n_old/n_new), by which the weights grow."""
    return math.log2(task.new / 2 + 1), math.sqrt(task.old / task.new)


@register("r_dfcil")
class RDFCIL(Method):
    """Learn features from new images and their relations, then the head alone on new and made images.

    Made images keep the old logits; the angles between features of new images keep to the teacher's. Two
    linear maps into twice the dimensions, trained with the network, lie before the angles. Then the backbone
    is frozen with its statistics, and the cross-entropy weighs classes by the inverse of their images. The
    official head has no bias, its made images pass the network in a forward of their own, and its classes are
    counted while features train; here, once on as many made images as there are new ones. Officially the
    first task loses its last epochs to a loss of zero; here it is plain.
    """

    name, title = "r_dfcil", "R-DFCIL"
    paper = "Gao et al., R-DFCIL, ECCV 2022 (arXiv 2203.13104)"
    equation = (
        "l_ce (1 + 1/alpha)/beta CE(z_new, y) + l_hkd alpha beta |z_old(made) - teacher's| "
        "+ l_rkd alpha beta |angles(P f) - angles(P_old f_old)| on new; then the head: l_ce CE_w(z, y) + hkd"
    )
    paradigm = "generated data"
    level, kind = "implicit data, logits, features", "model inversion, logit matching, relation"
    teacher = True
    batch_norm = True
    memories = ()

    @dataclass(frozen=True)
    class HP(Inversion):
        """The weights of the three terms, before their scales, and the training of the head alone."""

        distill: bool = fields.distill("neither logits nor relations; made images train the head alone")
        ce_weight: float = hp(0.5, Float(0.05, 5, log=True), doc="lambda_ce; official 0.5")
        kd_weight: float = fields.stability_weight(
            0.15, 0.01, 2, when=fields.DISTILLING, doc="lambda_hkd of the logits of made images; 0.15"
        )
        relation_weight: float = fields.stability_weight(
            0.5, 0.05, 5, when=fields.DISTILLING, doc="lambda_rkd of the angles between new images; 0.5"
        )
        head_epochs: float = hp(
            0.25, Float(0.0, 2.0), doc="epochs of the head alone for one before: 40 of 160; 0: none"
        )
        head_lr: float = hp(
            0.05, Float(1e-3, 1.0, log=True), doc="its constant learning rate over the first: 0.005 of 0.1"
        )

    def recipe(self) -> Mapping[str, Value]:
        # Official: SGD, batches of 128, 160 epochs before the head's 40, /10 at 80 and 120.
        return {"optimizer": "sgd", "weight_decay": 5e-4, "schedule": "step", "milestones": "0.5,0.75"}

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows, recipe, params = (Rows(task.rows),), task.recipe, list(s.net.parameters())
        if task.index:
            made, steps = self.hp.new_generator(s, data, g), self.hp.steps(task)
            learn = self.hp.generator_recipe(recipe)
            yield Phase("invert", (), learn, self.hp.inversion_loss, made, train_mode=False, steps=steps)
            params += _projections(s, g) if self.hp.distill else []
        yield Phase("train", rows, recipe, self.loss, tuple(params))
        if task.index and self.hp.head_epochs:
            weights = class_weights(data.labels(task.rows), made_labels(s, len(task.rows), g), task.seen)
            s.local["class_weights"] = nn.Parameter(weights.to(data.device), requires_grad=False)
            last = recipe.stage(self.hp.head_epochs, lr=self.hp.head_lr * recipe.lr, schedule="constant")
            yield Phase("head", rows, last, self.head_loss, tuple(s.head.rows()), train_mode=False)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        return self.hp.pictures(s, n, g)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        return self.hp.make_images(s, b, task, g) if task.index else b

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out, n = s.net(b.x), len(b.y) // 2  # n new images, then n made ones
        if s.teacher is None:
            return {"ce": Term(F.cross_entropy(out.logits, b.y))}
        alpha, beta = scales(task)
        ce = new_only(out.logits[:n], b.y[:n], task)
        terms = {"ce": Term(ce, self.hp.ce_weight * (1 + 1 / alpha) / beta)}
        if self.hp.distill:
            old = s.teacher(b.x)
            terms["kd"] = self._kd(out.logits[n:], old.logits[n:], task)
            angles = relation_angle_l1(
                s.modules["projection"](out.features[:n]), s.modules["old projection"](old.features[:n])
            )
            terms["relation"] = Term(angles, self.hp.relation_weight * alpha * beta)
        return terms

    def head_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """Of the head alone: weighted cross-entropy of all images, and the distillation of made ones."""
        z, n = s.net(b.x).logits, len(b.y) // 2
        weights = s.local["class_weights"]
        terms = {"ce": Term(F.cross_entropy(z, b.y, weights), self.hp.ce_weight)}
        if self.hp.distill:
            terms["kd"] = self._kd(z[n:], s.teacher(b.x[n:]).logits, task)  # type: ignore[misc]
        return terms

    def _kd(self, z: Tensor, z_old: Tensor, task: Task) -> Term:
        alpha, beta = scales(task)
        return Term(logit_l1(z[:, : task.old], z_old), self.hp.kd_weight * alpha * beta)

    def note(self, task: Task) -> str | None:
        return fallback_note(task)


def class_weights(new: Tensor, made: Tensor, classes: int) -> Tensor:
    """Return the weight [K] of each class from the labels of new and made images: inverse counts, least 1."""
    counts = torch.bincount(torch.cat([new.cpu(), made.cpu()]), minlength=classes).clamp(min=1)
    return counts.max() / counts


def _projections(s: State, g: Streams) -> list[nn.Parameter]:
    # Two linear maps D -> 2D, of the student's features and of the teacher's.
    dim = s.head.weight.shape[1]
    with global_stream(g("projections")):
        pair = {name: nn.Linear(dim, 2 * dim) for name in ("projection", "old projection")}
    s.modules |= {name: linear.to(s.head.weight.device) for name, linear in pair.items()}
    return [p for linear in pair.values() for p in linear.parameters()]
