"""DyTox: dynamic token expansion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, sigmoid
from cl_core.blocks.exemplars import rank, update_exemplars
from cl_core.blocks.losses import kd
from cl_core.errors import BadRequest
from cl_core.hparams import Float, Value, hp, option
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Base, Method, Phase, Rows, register
from cl_core.nets.network import LinearHead
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

# Official: AdamW, 5e-4 for 512 images a step; two GPUs with 128 each.
_RECIPE: dict[str, Value] = {"optimizer": "adamw", "lr": 2.5e-4, "weight_decay": 1e-6, "schedule": "cosine"}


@register("dytox")
class DyTox(Method):
    """One encoder for all tasks, and a token with a classifier of its own for each; sigmoids answer.

    Patches of the encoder enter an attention block once for every task, with that task's token; the result
    is what the task's classifier reads. Tokens and classifiers of old tasks stay as they are in the first
    phase, and the encoder in the second, which trains briefly on equally many images of all classes. A
    divergence head, dropped after the first phase, tells new classes from each other and from all old ones
    by the newest token. The encoder is the study's net, up to its last map; `convit` is the paper's.

    Read: continual/dytox.py, convit.py, engine.py, rehearsal.py, main.py and the options of
    github.com/arthurdouillard/dytox. Left out: drop path, RandAugment, repeated augmentation, the warm-up,
    and the mixup and SAM of DyTox+ and DyTox++. Exemplars are herded after both phases, without augmentation
    and within the budget; officially between them, and the published figures had a memory for each GPU. The
    distillation is a mean over images and old classes, as the BCE is one over images and classes; with
    `batch` it is a mean over images, and stronger. Weights of narrow nets begin larger than 0.02.
    """

    name, title = "dytox", "DyTox"
    paper = "Douillard et al., DyTox: Transformers with Dynamic Token Expansion, CVPR 2022 (arXiv 2111.11326)"
    equation = (
        "(1 - lambda) BCE(z, y) + lambda KL(softmax(z_old) || softmax(z[old])) + alpha BCE(z_div, y_div), "
        "lambda = n_old/n, y_div = 0 for any old class"
    )
    paradigm, level, kind = "architecture", "logits", "probability matching"
    teacher = True
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Budget):
        """The distillation, the divergence head and the balanced phase."""

        distill: bool = fields.distill("lambda 0, so the BCE with weight 1")
        kd_weight: float = fields.stability_weight(
            1.0, 0.1, 10, when=fields.DISTILLING, doc="factor on lambda = n_old/n of the distillation"
        )
        reduction: str = option(
            "elements",
            "batch",
            when=fields.DISTILLING,
            doc="of the distillation: mean over images and old classes (official code), or over images",
        )
        divergence_weight: float = hp(
            0.1, Float(0.01, 1, log=True), doc="alpha, of the head that only the first phase has"
        )
        balanced_epochs: float = hp(
            0.04,
            Float(0.0, 10.0),
            searched=False,
            doc="epochs of the balanced phase per epoch of the first: 20 of 500; 0: no such phase",
        )
        balanced_lr: float = hp(
            0.1, Float(0.01, 1, log=True), doc="constant rate of the balanced phase over the first one's"
        )

    def check_net(self, features: Tensor, maps: tuple[Tensor, ...]) -> None:
        """Refuse a net without maps, and one whose last map has not as many channels as features."""
        if not maps or maps[-1].shape[1] != features.shape[1]:
            raise BadRequest(
                f"dytox reads the patches of a net's last map [B, {features.shape[1]}, H, W], which this net "
                "does not give; take net convit-small or another of cl-search's"
            )

    def base(self) -> Base:
        return Base("tokens", head="tokens", last_relu=False, recipe=_RECIPE)

    def recipe(self) -> Mapping[str, Value]:
        return _RECIPE

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = (Rows(torch.cat([task.rows, s.memory.ids()])),)
        if not task.index:
            yield Phase("train", rows, task.recipe, self.loss)
            return
        dim = s.head.weight.shape[1]
        divergence = nn.Sequential(nn.LayerNorm(dim), head := LinearHead(dim, task.new + 1))
        head.open(0, task.new + 1, g("head", "divergence"))
        s.modules["divergence"] = divergence.to(data.device)
        params, fresh = (*s.net.parameters(), *divergence.parameters()), (task.old, task.seen)
        yield Phase("train", rows, task.recipe, self.loss, params=params, head_rows=fresh)
        if not self.hp.balanced_epochs:
            return
        counts = self.hp.counts(task.seen, data.image_bytes)
        even = [s.memory.rows[c][: counts[c]] for c in range(task.old)]
        even += [rank(self.hp, s.net, data, data.rows([c]), counts[c], g("even", c)) for c in range(*fresh)]
        rate = self.hp.balanced_lr * task.recipe.lr
        recipe = task.recipe.stage(self.hp.balanced_epochs, lr=rate, schedule="constant")
        # Also the tokens and classifiers of old tasks, as in the official code.
        trained, rows = tuple(s.net.head.parameters()), (Rows(torch.cat(even)),)
        yield Phase("balanced", rows, recipe, self.balanced_loss, params=trained, train_mode=False)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The first phase's: the BCE, the old network's outputs, and the divergence head."""
        out = s.net(b.x)
        if not task.index:
            return {"bce": Term(bce(out.logits, b.y))}
        old = task.old / task.seen if self.hp.distill else 0.0
        terms = {"bce": Term(bce(out.logits, b.y), 1 - old)}
        if s.teacher is not None and self.hp.distill:
            value = kd(out.logits[:, : task.old], s.teacher(b.x).logits, 1.0)
            divisor = task.old if self.hp.reduction == "elements" else 1
            terms["kd"] = Term(value / divisor, old * self.hp.kd_weight)
        newest = out.features[:, -s.head.weight.shape[1] :]  # [B, D]
        y = (b.y - task.old + 1).clamp_min(0)  # 0: any old class
        value = bce(s.modules["divergence"](newest), y)
        return terms | {"divergence": Term(value, self.hp.divergence_weight)}

    def balanced_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The BCE alone."""
        return {"bce": Term(bce(s.net(b.x).logits, b.y))}

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)

    def reading(self, scores: Tensor) -> Reading:
        return sigmoid(scores)


def bce(z: Tensor, y: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits z [B, K] and labels y [B], mean over images and classes."""
    return F.binary_cross_entropy_with_logits(z, F.one_hot(y, z.shape[1]).to(z.dtype))
