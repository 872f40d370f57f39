"""ABD: always be dreaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.inversion import Inversion
from cl_core.blocks.losses import fallback_note, logit_l2, new_only
from cl_core.hparams import Value, option
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("abd")
class ABD(Method):
    """Dream old classes by inversion; train features on new images, and the head on new and dreamt ones.

    Each step has as many dreamt images as new ones, with the class that the teacher sees in them. Features
    learn the new classes from new images alone, and keep what the old head reads of them. The head learns all
    seen classes from features without gradient; the official code has the unseen classes there too. The
    official code continues the generator of the previous task and forwards each batch twice in training mode.
    Here each task begins a new generator, which is not kept, and one forward serves both terms.
    """

    name, title = "abd", "Always Be Dreaming"
    paper = "Smith et al., Always Be Dreaming, ICCV 2021 (arXiv 2106.09701)"
    equation = (
        "eq. 11, 13, 14: w_y CE(z_new, y) on new + w_y CE(h(f without gradient), y) on new and dreamt "
        "+ mu |h_old(f) - h_old(f_old)|^2/n_old on new and dreamt"
    )
    paradigm = "generated data"
    level, kind = "implicit data, features", "model inversion, instance feature"
    teacher = True
    batch_norm = True
    memories = ()

    @dataclass(frozen=True)
    class HP(Inversion):
        """The distillation, the weights of classes, and the inversion."""

        distill: bool = fields.distill("dreamt images train the head alone")
        kd_weight: float = fields.stability_weight(
            0.1, 0.01, 10, when=fields.DISTILLING, doc="mu of the features as the old head weighs them: 0.1"
        )
        class_weights: bool = option(
            True, False, doc="on: n_old/n for old classes, n_new/n for new ones (official); off: 1"
        )

    def recipe(self) -> Mapping[str, Value]:
        # Official: SGD, 250 epochs of batches of 128, /10 at 100, 150 and 200.
        return {"optimizer": "sgd", "weight_decay": 2e-4, "schedule": "step", "milestones": "0.4,0.6,0.8"}

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            params, recipe = self.hp.new_generator(s, data, g), self.hp.generator_recipe(task.recipe)
            steps = self.hp.steps(task)
            yield Phase("invert", (), recipe, self.hp.inversion_loss, params, train_mode=False, steps=steps)
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        return self.hp.pictures(s, n, g)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        return self.hp.make_images(s, b, task, g) if task.index else b

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out, n = s.net(b.x), len(b.y) // 2  # n new images, then n dreamt ones
        if s.teacher is None:
            return {"ce": Term(F.cross_entropy(out.logits, b.y))}
        w = self._weights(task, b.y)
        z = s.net.head(out.features.detach()).float()  # [2n, seen]
        terms = {
            "ce": Term(w[0] * new_only(out.logits[:n], b.y[:n], task)),
            "head": Term((w * F.cross_entropy(z, b.y, reduction="none")).mean()),
        }
        if self.hp.distill:
            old_head = s.teacher.net.head
            kept = logit_l2(old_head(out.features), old_head(s.teacher(b.x).features))
            terms["kd"] = Term(kept, self.hp.kd_weight)
        return terms

    def _weights(self, task: Task, y: Tensor) -> Tensor:
        # [2n], by the class of each image
        if not self.hp.class_weights:
            return torch.ones_like(y, dtype=torch.float32)
        return torch.where(y < task.old, task.old / task.seen, task.new / task.seen)

    def note(self, task: Task) -> str | None:
        return fallback_note(task)
