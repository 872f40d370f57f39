"""Learning without Forgetting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import fallback_note, grouped_kd, kd, new_only
from cl_core.hparams import Float, hp, option
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("lwf")
class LwF(Method):
    """Cross-entropy on the new classes and softened distillation of the old ones, on new images alone.

    The teacher sees the same augmented view as the student. Old head rows train, as in the paper; FACIL
    freezes them (`train_old_head` off). `kd` carries T^2, so the paper's weight 1 at T = 2 is 0.25 here.
    """

    name, title = "lwf", "Learning without Forgetting"
    paper = "Li & Hoiem, Learning without Forgetting, TPAMI 2017 (arXiv 1606.09282)"
    equation = (
        "eq. 1-4: L = L_new(softmax(z_new), y) + lambda_o T^2 KL(softmax(z_old/T) of teacher || student)"
    )
    paradigm, level, kind = "regularisation", "logits", "probability matching"
    teacher = True
    memories = ()

    @dataclass(frozen=True)
    class HP:
        """Weight, temperature and scope of the distillation."""

        distill: bool = fields.distill("fine-tuning, old rows decaying too")
        kd_weight: float = fields.stability_weight(
            0.25, 0.02, 8, when=fields.DISTILLING, doc="lambda_o / T^2: paper 1 and PyCIL 3 are 0.25 and 0.75"
        )
        temperature: float = fields.temperature("T, eq. 3")
        kd_softmax: str = option(
            "joint",
            "per_task",
            acts_from=2,
            when=fields.DISTILLING,
            doc="one softmax over all old classes, or one per task (paper)",
        )
        ce_scope: str = fields.ce_scope()
        train_old_head: bool = option(
            True, False, doc="on: the head's old rows train (paper); off: they are frozen (FACIL)"
        )
        warmup: float = hp(
            0.0,
            Float(0.0, 0.5),
            searched=False,
            doc="share of epochs that first train the new head rows alone",
        )

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows, new_rows = (Rows(task.rows),), (task.old, task.seen)
        epochs = math.ceil(self.hp.warmup * task.recipe.epochs)
        if task.index and epochs:
            head = tuple(s.head.rows())
            recipe = task.recipe.replace(epochs=epochs)
            yield Phase("warmup", rows, recipe, self.loss, params=head, head_rows=new_rows, train_mode=False)
        frozen = task.index and not self.hp.train_old_head
        yield Phase("train", rows, task.recipe, self.loss, head_rows=new_rows if frozen else None)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        if self.hp.ce_scope == "new_only":
            terms = {"ce": Term(new_only(z, b.y, task))}
        else:
            terms = {"ce": Term(F.cross_entropy(z, b.y))}
        if s.teacher is not None and self.hp.distill:
            z_old = s.teacher(b.x).logits  # [B, old]
            if self.hp.kd_softmax == "joint":
                value = kd(z[:, : task.old], z_old, self.hp.temperature)
            else:
                value = grouped_kd(z, z_old, self.hp.temperature, task.groups[:-1])
            terms["kd"] = Term(value, self.hp.kd_weight)
        return terms

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.ce_scope == "new_only" else None
