"""SS-IL: separated softmax for incremental learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.exemplars import update_exemplars
from cl_core.blocks.losses import fallback_note, grouped_kd, separated
from cl_core.hparams import Choice, Int, hp
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("ss_il")
class SSIL(Method):
    """Separated softmax, and a distillation per old task, on steps of new and replayed images in fixed ratio.

    New samples are classified among the new classes, exemplars among the old, so that no label lowers the
    logits of the other part. An epoch is one pass over the new images; exemplars are reshuffled and repeated
    beside them. The distillation is a sum over the old tasks, so it grows with their number. The official
    code keeps the first images of a class; here herding ranks them (`selection`).
    """

    name, title = "ss_il", "SS-IL"
    paper = "Ahn et al., SS-IL: Separated Softmax for Incremental Learning, ICCV 2021 (arXiv 2003.13947)"
    equation = (
        "eq. 4-5: CE(softmax(z_new), y) on new + CE(softmax(z_old), y) on exemplars "
        "+ sum_s T^2 KL(softmax(z_s/T) of teacher || student) over the old tasks s"
    )
    paradigm, level, kind = "data replay", "logits", "probability matching"
    teacher = True

    @dataclass(frozen=True)
    class HP(Budget):
        """Distillation, replayed images per step, and the learning rate of later tasks."""

        distill: bool = fields.distill("no task-wise distillation, the rest stays")
        kd_weight: float = fields.stability_weight(
            1.0,
            0.1,
            10,
            when=fields.DISTILLING,
            doc="of the task-wise distillation; the paper's is 1, with T^2",
        )
        temperature: float = fields.temperature("T, paper and official code 2", searched=False)
        replay_batch: int = hp(
            32, Int(8, 128, log=True), doc="N_M: exemplars per step, beside a batch of new images"
        )
        lr_task_decay: str = hp(
            "inverse",
            Choice("inverse", "none"),
            doc="inverse: divide the learning rate of task t by t + 1 (official code)",
        )

    def schedule(self, recipe: Recipe, index: int) -> Recipe:
        return recipe.replace(lr=recipe.lr / (index + 1)) if self.hp.lr_task_decay == "inverse" else recipe

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        replayed = Rows(s.memory.ids(), batch=self.hp.replay_batch)
        yield Phase("train", (Rows(task.rows), replayed), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [N_D + N_M, seen]
        if s.teacher is None:
            return {"ce": Term(F.cross_entropy(z, b.y))}
        terms = {"ce": Term(separated(z, b.y, task))}
        if self.hp.distill:
            z_old = s.teacher(b.x).logits  # [N_D + N_M, old]
            value = grouped_kd(z, z_old, self.hp.temperature, task.groups[:-1])
            terms["kd"] = Term(value, self.hp.kd_weight)
        return terms

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)

    def note(self, task: Task) -> str | None:
        return fallback_note(task)
