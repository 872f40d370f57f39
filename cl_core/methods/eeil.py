"""EEIL: end-to-end incremental learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.exemplars import rank, update_exemplars
from cl_core.blocks.losses import grouped_kd, kd
from cl_core.hparams import Float, hp, option
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, OnGrad, Phase, Rows, register
from cl_core.nets.network import Frozen
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

_NOISY: fields.Branch = {"grad_noise": ("sum_grad", "mean_grad")}


@register("eeil")
class EEIL(Method):
    """Cross-entropy over all seen classes, a distillation for every old task's head, then balanced training.

    Stage 1 trains on new data and exemplars; then its network is frozen and herds the new classes. Stage 2
    trains on equally many images per class and distils the new head from the frozen network. `kd` carries
    T^2, so the paper's weight 1 at T = 2 is 0.25 here. The paper stores twelve variants of each image; here
    the data set's augmentation replaces them, with longer stages (90 + 40 epochs, not 40 + 30). A shrinking
    memory drops the last of its ranking, as in the paper; the official code drops at random.
    """

    name, title = "eeil", "End-to-End Incremental Learning"
    paper = "Castro et al., End-to-End Incremental Learning, ECCV 2018 (arXiv 1807.09536)"
    equation = "CE(softmax(z), y) + sum_old tasks k T^2 KL(softmax(z_k/T) of teacher || student)"
    paradigm, level, kind = "data replay", "logits", "probability matching"
    teacher = True

    @dataclass(frozen=True)
    class HP(Budget):
        """Distillation, the balanced stage, and the gradient noise."""

        distill: bool = fields.distill("neither stage distils")
        kd_weight: float = fields.stability_weight(
            0.25, 0.02, 8, when=fields.DISTILLING, doc="of each head, / T^2: paper 1"
        )
        temperature: float = fields.temperature("T", searched=False)
        balanced_epochs: float = hp(
            0.4444, Float(0.0, 10.0), doc="epochs of stage 2 per epoch of stage 1: 40 of 90; 0: no stage 2"
        )
        balanced_lr: float = hp(0.1, Float(1e-3, 1.0, log=True), doc="learning rate over stage 1's")
        balanced_teacher: str = option(
            "post_stage1",
            "previous_task",
            when=fields.DISTILLING,
            doc="teacher of the old heads in stage 2: stage 1 (official code) or the previous task (FACIL)",
        )
        grad_noise: str = option(
            "none",
            "sum_grad",
            "mean_grad",
            doc="Gaussian noise on the gradient of the batch's sum (official code) or mean (FACIL)",
        )
        grad_noise_eta: float = hp(
            0.3,
            Float(1e-4, 1.0, log=True),
            searched=False,
            when=_NOISY,
            doc="eta of the deviation eta/(1 + epoch)^gamma, epochs from 1 (Neelakantan et al.: variance)",
        )
        grad_noise_gamma: float = hp(
            0.55, Float(0.3, 1.0), searched=False, when=_NOISY, doc="gamma; stage 2 continues the count"
        )

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows, recipe = torch.cat([task.rows, s.memory.ids()]), task.recipe
        yield Phase("train", (Rows(rows),), recipe, self.loss, on_grad=self.noise(s, task, 0))
        if not task.index or not self.hp.balanced_epochs:
            return
        rows = self._balanced(s, task, data, g)
        if self.hp.distill:
            s.copies["stage1"] = Frozen(s.net)
        noise = self.noise(s, task, recipe.epochs)
        yield Phase("balanced", (Rows(rows),), self.stage2_recipe(recipe), self.balanced_loss, on_grad=noise)

    def stage2_recipe(self, stage1: Recipe) -> Recipe:
        """The recipe of the balanced stage, from that of stage 1."""
        return stage1.stage(self.hp.balanced_epochs, lr=self.hp.balanced_lr * stage1.lr)

    def _balanced(self, s: State, task: Task, data: View, g: Streams) -> Tensor:
        # Equally many rows of every class, before the memory shrinks.
        new = {c: data.rows([c]) for c in range(task.old, task.seen)}
        m = min(map(len, [*s.memory.rows.values(), *new.values()]))
        old = [rows[:m] for rows in s.memory.rows.values()]
        herded = [rank(self.hp, s.net, data, rows, m, g("balanced", c)) for c, rows in new.items()]
        return torch.cat([*old, *herded])

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """Stage 1: cross-entropy, and a distillation for every old head."""
        z = s.net(b.x).logits  # [B, seen]
        terms = {"ce": Term(F.cross_entropy(z, b.y))}
        if s.teacher is not None and self.hp.distill:
            value = grouped_kd(z, s.teacher(b.x).logits, self.hp.temperature, task.groups[:-1])
            terms["kd"] = Term(value, self.hp.kd_weight)
        return terms

    def balanced_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """Stage 2: the same, and the distillation of the new head."""
        z = s.net(b.x).logits  # [B, seen]
        terms = {"ce": Term(F.cross_entropy(z, b.y))}
        if self.hp.distill:
            t, target = self.hp.temperature, s.copies["stage1"](b.x).logits  # [B, seen]
            z_old = target if self.hp.balanced_teacher == "post_stage1" else s.teacher(b.x).logits  # type: ignore[misc]
            terms["kd"] = Term(grouped_kd(z, z_old, t, task.groups[:-1]), self.hp.kd_weight)
            terms["kd_new"] = Term(kd(z[:, task.old :], target[:, task.old :], t), self.hp.kd_weight)
        return terms

    def noise(self, s: State, task: Task, before: int) -> OnGrad | None:
        """Return what adds noise to the gradients of a step; `before`: epochs of earlier stages."""
        if self.hp.grad_noise == "none" or not task.index:
            return None

        def add(params: Sequence[nn.Parameter], epoch: int, images: int, g: torch.Generator) -> None:
            divisor = images if self.hp.grad_noise == "sum_grad" else 1
            std = self.hp.grad_noise_eta / (2 + before + epoch) ** self.hp.grad_noise_gamma / divisor
            for p in params:
                noise = std * torch.randn(p.shape, generator=g)
                if any(p is rows for rows in s.head.rows()):
                    noise[task.seen :] = 0.0  # rows of future classes stay zero
                if p.grad is not None:
                    p.grad += noise.to(p.grad)

        return add

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)

    def note(self, task: Task) -> str | None:
        if not task.index or 1 not in task.sizes or not self.hp.distill:
            return None
        return "a head of one class has a constant softmax: no distillation there"
