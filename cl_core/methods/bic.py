"""BiC: large-scale incremental learning with bias correction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import bias_corrected
from cl_core.blocks.validation import divide_budget, draw_validation, images_a_class
from cl_core.hparams import Float, Value, hp, option
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

_FIXED: fields.Branch = {"kd_schedule": ("fixed",), **fields.DISTILLING}


@register("bic")
class BiC(Method):
    """Distillation with weight n_old/n, then a linear correction of the new logits on validation images.

    Stage 1 trains the raw logits. Its teacher is the previous network with its correction. Stage 2 trains two
    scalars while the network is frozen. With `single_last` (the paper) only the newest pair is applied, since
    the next stage 1 absorbs it through distillation. `per_task` keeps and applies a pair per task.

    Every seen class has as many validation images, part of its exemplar budget. Those of new classes are
    drawn before stage 1, which leaves them out. Those of the first task's classes are drawn after it, from
    rows that were trained on, so that the first task is the plain one. The correction is then biased low.
    Herding reads normalised features and ranks a class once; the official code takes features as they are and
    ranks old exemplars again at every task.
    """

    name, title = "bic", "BiC"
    paper = "Wu et al., Large Scale Incremental Learning, CVPR 2019 (arXiv 1905.13260)"
    equation = (
        "eq. 1-3: lambda L_d + (1 - lambda) L_c, lambda = n_old/n; eq. 4-5: q_k = alpha z_k + beta on new k"
    )
    paradigm, level, kind = "data replay", "logits", "probability matching"
    memories = ("exemplars", "validation")
    teacher = True
    images_a_class = 2  # one to train on, one for validation

    @dataclass(frozen=True)
    class HP(Budget):
        """Distillation, validation share and the second stage."""

        distill: bool = fields.distill("lambda 0, so cross-entropy with weight 1")
        temperature: float = fields.temperature("T of the distillation, which carries no T^2 here")
        kd_schedule: str = option("auto", "fixed", when=fields.DISTILLING, doc="auto: n_old/n")
        kd_lambda: float = hp(
            0.5, Float(0.0, 0.95), when=_FIXED, stability=True, doc="lambda with the fixed schedule"
        )
        val_fraction: float = hp(
            0.1, Float(0.05, 0.3), searched=False, doc="share of exemplars for validation, at least one each"
        )
        stage2_epochs: float = hp(
            10.0, Float(0.1, 50), searched=False, doc="epochs of stage 2 per epoch of stage 1"
        )
        stage2_lr: float = hp(0.1, Float(1e-4, 0.5, log=True), doc="learning rate of stage 2")
        beta_l2: float = hp(
            0.1, Float(0.0, 1.0), searched=False, doc="weight of beta^2/2 in stage 2 (official code)"
        )
        bias_layers: str = option("single_last", "per_task", acts_from=2, doc="classes with a correction")

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        self.hp.check_budget(sum(sizes), math.prod(shape), at_least=2)

    def primary(self) -> str:
        return "corrected"

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        super().begin(s, task, data, g)
        if task.index:
            # Until the task has ended, the budget is that of the old classes.
            validation, new = s.memories["validation"], range(task.old, task.seen)
            draw_validation(validation, data, new, self.hp.val_fraction, images_a_class(validation), g)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        validation = s.memories["validation"]
        fresh = task.rows[~torch.isin(task.rows, validation.ids(range(task.old, task.seen)))]
        yield Phase("train", (Rows(torch.cat([fresh, s.memory.ids()])),), task.recipe, self.loss)
        if not task.index:
            return
        s.local["pair"] = pair = nn.Parameter(_raw(s, 1))
        v = images_a_class(validation)
        rows = (Rows(torch.cat([held[:v] for held in validation.rows.values()])),)
        recipe, train = self.stage2_recipe(task.recipe), self.bias_loss
        yield Phase("bias", rows, recipe, train, (pair,), train_mode=False, augment=False, fixed=True)
        s.kept["bias"] = torch.cat([self._past(s, task), pair.detach()])

    def stage2_recipe(self, stage1: Recipe) -> Recipe:
        """The recipe of stage 2, from that of stage 1 (official code)."""
        share, lr = self.hp.stage2_epochs, self.hp.stage2_lr
        schedule: dict[str, Value] = {"schedule": "step", "gamma": 0.1, "milestones": "0.3,0.6,0.8,0.9"}
        return stage1.stage(share, optimizer="sgd", lr=lr, momentum=0.9, weight_decay=0.0, **schedule)

    def _past(self, s: State, task: Task) -> Tensor:
        # [earlier tasks, 2]: the pairs that are applied beside this task's own.
        applied = self.hp.bias_layers == "per_task" and task.index > 1
        return s.kept["bias"] if applied else _raw(s, task.index)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        if task.index and self.hp.bias_layers == "per_task":
            z = bias_corrected(z, torch.cat([self._past(s, task), _raw(s, 1)]), task.groups)
        ce = F.cross_entropy(z, b.y)
        if s.teacher is None or not self.hp.distill:
            return {"ce": Term(ce)}
        z_old = s.teacher(b.x).logits  # [B, old]
        if task.index > 1:
            z_old = bias_corrected(z_old, s.kept["bias"], task.groups[:-1])
        t = self.hp.temperature
        # Without T^2: its weight follows the numbers of classes.
        distilled = F.cross_entropy(z[:, : task.old] / t, F.softmax(z_old / t, dim=1))
        share = task.old / task.seen if self.hp.kd_schedule == "auto" else self.hp.kd_lambda
        return {"ce": Term(ce, 1.0 - share), "kd": Term(distilled, share)}

    def bias_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """Stage 2: cross-entropy of the corrected logits, and the decay of beta."""
        with torch.no_grad():
            z = s.net(b.x).logits
        pair = s.local["pair"]
        corrected = bias_corrected(z, torch.cat([self._past(s, task), pair]), task.groups)
        return {
            "bias_ce": Term(F.cross_entropy(corrected, b.y)),
            "beta_l2": Term(pair[0, 1].square() / 2, self.hp.beta_l2),
        }

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        divide_budget(self.hp, self.hp.val_fraction, s, data, task, g)

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        z = s.net(x).logits
        corrected = bias_corrected(z, s.kept["bias"], task.groups) if task.index else z
        return {"head": z, "corrected": corrected}


def _raw(s: State, pairs: int) -> Tensor:
    # [pairs, 2]: alpha 1 and beta 0, no correction; made on the device, so that no step copies from the host.
    return torch.eye(1, 2, device=s.head.weight.device).repeat(pairs, 1)
