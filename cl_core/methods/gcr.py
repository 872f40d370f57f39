"""GCR: gradient coreset replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.coreset import coreset
from cl_core.blocks.exemplars import outputs_of
from cl_core.blocks.losses import TINY
from cl_core.hparams import Float, Value, hp, option
from cl_core.images.view import View
from cl_core.memory import Budget, herding
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("gcr")
class GCR(Method):
    """Replay of a weighted coreset: cross-entropy, and the squared distance to the logits once stored.

    After a task each class keeps the exemplars whose weighted gradient of the replay loss is near that of all
    its images: a new class chooses among its training images, an old one among what it kept. An exemplar
    keeps its weight, and the logits that the network gave it at the end of its own task. A step has a batch
    of new images and one of exemplars; both replay terms are means by the weights.

    The official code takes the logits during training, fills the buffer from the first step on, and draws a
    batch for each replay term. Where an old class chooses again it replaces the weights; here the new ones
    match the weighted gradient of the old. The paper's supervised contrastive term is left out, as by default
    in the official code.
    """

    name, title = "gcr", "GCR"
    paper = "Tiwari et al., GCR: Gradient Coreset based Replay Buffer Selection, CVPR 2022 (arXiv 2111.11210)"
    equation = (
        "CE(new) + beta sum_j w_j CE_j + alpha sum_j w_j |z_j - z_stored,j|^2 on exemplars j; "
        "min_w>=0 |sum_i g_i - sum_j w_j g_j|^2 + lambda |w|^2 selects (GradApprox)"
    )
    paradigm, level, kind = "data replay", "logits", "logit matching"
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Budget):
        """The weights of the two replay terms, and the selection."""

        selection: str = option(
            "coreset",
            "herding",
            "random",
            at_boundary=True,
            doc="how exemplars are chosen; those of herding and random have the weight 1",
        )
        distill: bool = fields.distill("no stored logits in the loss: weighted replay alone")
        alpha: float = fields.stability_weight(
            0.1, 0.05, 2, when=fields.DISTILLING, doc="of the stored logits; official code 0.1"
        )
        beta: float = fields.stability_weight(0.5, 0.05, 2, doc="of weighted replay; official code 0.5")
        ridge: float = hp(
            0.5,
            Float(1e-3, 10, log=True),
            at_boundary=True,
            searched=False,
            when={"selection": ("coreset",)},
            doc="lambda over the mean squared length of a class's gradients; official code 0.5, not over it",
        )

    def recipe(self) -> Mapping[str, Value]:
        # Official: plain SGD at one rate, batches of 32.
        plain: dict[str, Value] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
        return {**plain, "lr": 0.03, "schedule": "constant", "batch": 32}

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        yield Phase("train", (Rows(task.rows), Rows(s.memory.ids())), task.recipe, self.loss)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        """Add the place [B] of each exemplar among those in memory; new images get the first."""
        if not task.index:
            return b
        ids, order = s.memory.ids().to(b.rows.device).sort()
        place = order[torch.searchsorted(ids, b.rows).clamp_max(len(ids) - 1)]
        return b._replace(drawn={"place": torch.where(b.y < task.old, place, 0)})

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]; one forward for new images and exemplars
        ce, old = F.cross_entropy(z, b.y, reduction="none"), b.y < task.old
        if not task.index:
            return {"ce": Term(ce.mean())}
        place = b.drawn["place"]
        weights = s.kept["weights"][place] * old  # [B], zero for new images
        weights = weights / weights.sum().clamp_min(TINY)
        terms = {
            "ce": Term((ce * ~old).sum() / (~old).sum().clamp_min(1)),
            "replay": Term((weights * ce).sum(), self.hp.beta),
        }
        if self.hp.distill:
            known = _known(b.y, task)[:, : task.old]
            apart = (z[:, : task.old] - s.kept["logits"][place]) * known
            mean = apart.square().sum(dim=1) / known.sum(dim=1)
            terms["dark"] = Term((weights * mean).sum(), self.hp.alpha)
        return terms

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        counts = self.hp.counts(task.seen, data.image_bytes)
        before = [len(rows) for rows in s.memory.rows.values()]
        past = {name: s.kept[name].split(before) for name in s.kept}
        logits, weights = [], []
        for c, k in counts.items():
            rows = s.memory.rows[c] if c < task.old else data.rows([c])
            features, z = outputs_of(s.net, data, rows)  # [n, D], [n, seen]
            stored = F.pad(past["logits"][c], (0, task.new)) if c < task.old else z
            w = past["weights"][c] if c < task.old else torch.ones(len(rows), device=z.device)
            if k < len(rows):
                draws = g("exemplars", c)
                if self.hp.selection == "coreset":
                    errors = self.errors(z, stored, c, task)
                    picked, w = coreset(errors, features, w, k, self.hp.ridge, draws)
                elif c < task.old:
                    picked, w = torch.arange(k), w[:k]  # a prefix of the ranking
                elif self.hp.selection == "herding":
                    picked, w = herding(features, k), w[:k]
                else:
                    picked, w = torch.randperm(len(rows), generator=draws)[:k], w[:k]
                rows, stored = rows[picked], stored[picked.to(z.device)]
            s.memory.rows[c] = rows
            logits.append(stored)
            weights.append(w)
        s.kept |= {"logits": torch.cat(logits), "weights": torch.cat(weights)}

    def errors(self, z: Tensor, stored: Tensor, c: int, task: Task) -> Tensor:
        """The gradients [n, seen] of the replay loss by logits z [n, seen] of images of class c."""
        y = torch.full((len(z),), c, device=z.device)
        gradient = self.hp.beta * (F.softmax(z, dim=1) - F.one_hot(y, task.seen))
        if self.hp.distill:
            apart = (z - stored) * _known(y, task)
            gradient += 2 * self.hp.alpha * apart / _known(y, task).sum(dim=1, keepdim=True)
        return gradient


def _known(y: Tensor, task: Task) -> Tensor:
    # [n, seen]: the classes that had a logit when an image of class y was stored, at the end of its own task.
    ends = torch.stack([(y >= start) * (end - start) for start, end in task.groups]).sum(dim=0)
    return torch.arange(task.seen, device=y.device) < ends[:, None]
