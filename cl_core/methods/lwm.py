"""LwM: learning without memorizing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import fallback_note, kd, new_only
from cl_core.errors import BadRequest
from cl_core.hparams import option
from cl_core.method import Method, register
from cl_core.state import State
from cl_core.task import Batch, Task, Term

DEAD = 1e-6  # a map with a smaller norm has no direction to compare


def class_map(maps: Tensor, weight: Tensor) -> Tensor:
    """ReLU(sum_k w_k A_k) of maps A [B, K, H, W] and a head row w [B, K] per sample: [B, H*W].

    Equals Grad-CAM of a linear head on average-pooled maps, without its factor 1/(H*W). At least float32.
    """
    wide = torch.promote_types(maps.dtype, torch.float32)
    return (maps.to(wide).flatten(2) * weight.to(wide)[:, :, None]).sum(dim=1).relu()


def attention_distance(q: Tensor, q_old: Tensor) -> tuple[Tensor, Tensor]:
    """The mean L1 distance L_AD of normalised maps q, q_old [B, N], and the share of samples without one.

    A sample with a map of norm below `DEAD` has distance zero and zero gradient.
    """
    norm, norm_old = (torch.linalg.vector_norm(m, dim=1, keepdim=True) for m in (q, q_old))
    alive = ((norm >= DEAD) & (norm_old >= DEAD)).to(q.dtype)  # [B, 1]
    difference = q / norm.clamp_min(DEAD) - q_old / norm_old.clamp_min(DEAD)
    return (difference.abs() * alive).sum() / len(q), 1.0 - alive.mean()


@register("lwm")
class LwM(Method):
    """LwF, and a distance between the attention maps of student and teacher for the top old class.

    Student and teacher map the same class b, each with its own head row. The student's map trains the
    backbone and, through its weights, the head. Grad-CAM has a closed form where the features are the mean of
    the last map, so other nets are refused. Old head rows train. With `distill` off, the distillation of
    logits stays.
    """

    name, title = "lwm", "Learning without Memorizing"
    paper = "Dhar et al., Learning without Memorizing, CVPR 2019 (arXiv 1811.08051)"
    equation = (
        "L_C + beta L_D + gamma L_AD, L_AD = || Q/|Q| - Q_old/|Q_old| ||_1, "
        "Q = ReLU(sum_k W[b,k] A_k), b = top old class"
    )
    paradigm, level, kind = "regularisation", "logits, features", "probability matching, hidden layer"
    teacher = True
    memories = ()

    @dataclass(frozen=True)
    class HP:
        """Weights of the two distillations, and which map is compared."""

        distill: bool = fields.distill("the attention term goes, L_D stays")
        kd_weight: float = fields.stability_weight(
            0.25, 0.02, 8, doc="beta / T^2: FACIL 1 is 0.25; the paper gives none"
        )
        logit_loss: str = option(
            "softmax",
            "sigmoid",
            doc="L_D: softened softmax (FACIL), or the sum of a sigmoid per old output (inclearn: mean)",
        )
        temperature: float = fields.temperature("T of L_D", when={"logit_loss": ("softmax",)}, searched=False)
        attention_weight: float = fields.stability_weight(
            1.0,
            1e-3,
            10,
            when=fields.DISTILLING,
            doc="gamma: FACIL 1, another code 0.8 (its 0.1 is for maps without the channel sum)",
        )
        attention_class: str = option(
            "student_top_old",
            "teacher_top",
            when=fields.DISTILLING,
            doc="class b: the student's top old class (paper, inclearn), or the teacher's (Avalanche)",
        )
        diff_through_alpha: bool = option(
            True,
            False,
            when=fields.DISTILLING,
            doc="on: the attention term also trains the head, through the weights of its map (inclearn)",
        )
        ce_scope: str = fields.ce_scope(doc="classes in the cross-entropy; new_only: FACIL, inclearn")

    def check_net(self, features: Tensor, maps: tuple[Tensor, ...]) -> None:
        if self.hp.distill:
            _check_pooling(features, maps)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out = s.net(b.x)
        z = out.logits  # [B, seen]
        ce = new_only(z, b.y, task) if self.hp.ce_scope == "new_only" else F.cross_entropy(z, b.y)
        if s.teacher is None:
            return {"ce": Term(ce)}
        z, before = z[:, : task.old], s.teacher(b.x)
        if self.hp.logit_loss == "softmax":
            distilled = kd(z, before.logits, self.hp.temperature)
        else:
            target = before.logits.sigmoid()
            distilled = F.binary_cross_entropy_with_logits(z, target, reduction="sum") / len(b.y)
        terms = {"ce": Term(ce), "kd": Term(distilled, self.hp.kd_weight)}
        if self.hp.distill:
            top = z if self.hp.attention_class == "student_top_old" else before.logits
            # A matrix product, since the gradient of indexing sums in no fixed order on a GPU.
            chosen = F.one_hot(top.argmax(dim=1), task.old).to(s.head.weight.dtype)  # [B, old]
            w, w_old = s.head.weight[: task.old], s.teacher.net.head.weight[: task.old]  # type: ignore[index]
            alpha = chosen @ (w if self.hp.diff_through_alpha else w.detach())  # [B, K]
            q, q_old = class_map(out.maps[-1], alpha), class_map(before.maps[-1], chosen @ w_old)
            distance, dead = attention_distance(q, q_old)
            terms["attention"] = Term(distance, self.hp.attention_weight)
            terms["dead_maps"] = Term(dead, 0.0)  # for the record
        return terms

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.ce_scope == "new_only" else None


def _check_pooling(features: Tensor, maps: tuple[Tensor, ...]) -> None:
    same = bool(maps) and maps[-1].ndim == 4 and maps[-1].shape[:2] == features.shape
    if not same or not torch.allclose(maps[-1].float().mean(dim=(2, 3)), features, rtol=1e-3, atol=1e-5):
        found = f"{len(maps)} maps" if not same else "another pooling"
        raise BadRequest(
            f"lwm needs a net whose features are the average of its last map [B, D, H, W], not one with "
            f"{found}: use convnet, resnet32 or resnet18, or return that map last"
        )
