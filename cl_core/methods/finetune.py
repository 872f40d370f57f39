"""Fine-tuning: the lower reference."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import fallback_note, new_only
from cl_core.method import Method, register
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("finetune")
class Finetune(Method):
    """Cross-entropy on the images of the current task, nothing against forgetting."""

    name, title = "finetune", "Fine-tuning"
    paper = "the field's lower reference"
    equation = "CE(softmax(z), y) on the new data"
    paradigm, level, kind = "baseline", "none", "none"

    @dataclass(frozen=True)
    class HP:
        """The classes in the cross-entropy."""

        ce_scope: str = fields.ce_scope(
            "all_seen", "all_seen pushes old logits down; new_only leaves old rows without gradient (PyCIL)"
        )

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        if self.hp.ce_scope == "new_only":
            return {"ce": Term(new_only(z, b.y, task))}
        return {"ce": Term(F.cross_entropy(z, b.y))}

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.ce_scope == "new_only" else None
