"""One distillation loss alone, on fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.distillation import DISTILLATIONS, Distilled
from cl_core.blocks.losses import fallback_note, new_only
from cl_core.hparams import Choice, hp
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("distill")
class Distill(Method):
    """Fine-tuning on new images with the heads of LwF and one distillation loss.

    The teacher sees the student's view, in evaluation mode. Only the head rows of the current task train, so
    that weight decay shrinks no row without a loss. With `train_old_head` all rows train, as in LwF.
    """

    name, title = "distill", "Distillation alone"
    paper = (
        "one loss each of LwF, DER, R-DFCIL, LUCIR, PODNet, AT, RKD and PRD (cl_core/blocks/distillation.py)"
    )
    equation = "CE(softmax(z_new), y) + kd_weight x usual weight x loss(student, teacher) on the new data"
    paradigm = "regularisation"
    level, kind = "logits or features", "that of the loss"
    memories = ()
    teacher = True

    @dataclass(frozen=True)
    class HP(Distilled):
        """The loss, the classes of the cross-entropy, and the rows that train."""

        loss: str = hp("kl", Choice("none", *DISTILLATIONS), searched=False, doc="the distillation loss")
        ce_scope: str = fields.ce_scope()
        train_old_head: bool = hp(
            False, Choice(True, False), searched=False, doc="on: the head's old rows train too (LwF)"
        )

    def check_net(self, features: Tensor, maps: tuple[Tensor, ...]) -> None:
        self.hp.check_maps(maps)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        frozen = task.index and not self.hp.train_old_head
        head_rows = (task.old, task.seen) if frozen else None
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss, head_rows=head_rows)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out = s.net(b.x)
        new = self.hp.ce_scope == "new_only"
        ce = new_only(out.logits, b.y, task) if new else F.cross_entropy(out.logits, b.y)
        return {"ce": Term(ce), **self.hp.terms(s, out, b, task)}

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.ce_scope == "new_only" else None
