"""FOSTER: feature boosting and compression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.boosting import Boosted, balanced_kd, effective_weights, with_head
from cl_core.blocks.exemplars import update_exemplars
from cl_core.blocks.losses import cross_entropy_kd
from cl_core.hparams import Float, Value, hp
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.nets.network import Frozen, LinearHead, Network
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("foster")
class FOSTER(Method):
    """Boosting: a second backbone learns what the old one lacks. Compression: one backbone learns both.

    In the first phase the old backbone is frozen. The new one begins as its copy, and trains with a head on
    both features; an auxiliary head makes the new features useful alone. In the second phase the old network,
    with rows for the new classes, learns the outputs of the two by a balanced distillation. It alone is the
    network of the next task. The paper reports it as FOSTER and the two as FOSTER B4; the official code
    reports the two. Both are recorded, and `classifier` says which answers.

    The weights of classes follow the numbers of their images; the official code takes 500 for new classes of
    CIFAR-100. Its beta1 falls from task to task, here it is one value. Exemplars are herded on the features
    of both backbones, as in the official code. That code also changes images by AutoAugment and Cutout:
    keys of `data.augment`, off unless a study sets them, as the preset published-foster does.
    """

    name, title = "foster", "FOSTER"
    paper = "Wang et al., FOSTER: Feature Boosting and Compression, ECCV 2022 (arXiv 2204.04662)"
    equation = (
        "boosting: CE(z / w, y) + CE(z_aux, y) + lambda CE-KD(z[old], teacher), z = W_o f_old + W_n f_new + b"
        "; compression: CE-KD of w softmax(z/T), normalised; w_c ~ (1 - beta)/(1 - beta^n_c)"
    )
    paradigm, level, kind = "architecture", "logits", "probability matching"
    teacher = True
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Budget):
        """The weights of classes, the distillations, the length of the second phase, and what answers."""

        distill: bool = fields.distill("boosting without the old network's outputs, compression on labels")
        okd_weight: float = fields.stability_weight(
            1.0, 0.1, 5, when=fields.DISTILLING, doc="lambda of the old network's outputs in boosting"
        )
        temperature: float = fields.temperature("T of both distillations, without T^2", searched=False)
        beta1: float = hp(
            0.96, Float(0.9, 0.99), doc="of the weights that divide logits in boosting; official .94 to .98"
        )
        beta2: float = hp(
            0.97, Float(0.9, 0.99), when=fields.DISTILLING, doc="of the weights on targets in compression"
        )
        compression_epochs: float = hp(
            130 / 170,
            Float(0.1, 10),
            searched=False,
            doc="epochs of compression per epoch of boosting: 130 of 170",
        )
        classifier: str = fields.classifier("student", "boosted")

    def recipe(self) -> Mapping[str, Value]:
        # Official: SGD, batches of 128, a cosine from 0.1 over 170 epochs and again over 130.
        return {"optimizer": "sgd", "weight_decay": 5e-4, "schedule": "cosine"}

    def primary(self) -> str:
        return self.hp.classifier

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = (Rows(torch.cat([task.rows, s.memory.ids()])),)
        if not task.index:
            yield Phase("train", rows, task.recipe, self.loss)
            return
        s.nets = {}
        counts = [len(ids) for ids in s.memory.rows.values()]
        counts += [len(data.rows([c])) for c in range(task.old, task.seen)]
        for name, beta in (("boosting", self.hp.beta1), ("compression", self.hp.beta2)):
            weights = effective_weights(counts, beta).to(data.device)
            s.local[name] = nn.Parameter(weights, requires_grad=False)
        # The head on old features begins as the old head, that on new features at random.
        weight, bias = (p.detach().clone() for p in s.head.rows())
        s.local["old"] = nn.Parameter(weight[: task.seen])
        s.head.open(0, task.seen, g("head", "new features"))
        s.head.bias.data = bias
        s.modules["auxiliary"] = LinearHead(weight.shape[1], task.seen).to(data.device)
        s.modules["auxiliary"].open(0, task.seen, g("head", "auxiliary"))  # type: ignore[operator]
        params = (*s.net.parameters(), s.local["old"], *s.modules["auxiliary"].parameters())
        yield Phase("train", rows, task.recipe, self.boosting_loss, params=params)
        assert s.teacher is not None
        s.nets = {"old": with_head(s.teacher, s.local["old"].detach()), "new": Frozen(s.net)}
        s.net.load_state_dict(s.teacher.net.state_dict())
        s.head.open(task.old, task.seen, g("head", "student"))
        recipe = task.recipe.stage(self.hp.compression_epochs, weight_decay=0.0)
        yield Phase("compression", rows, recipe, self.compression_loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The first task's."""
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}

    def boosting_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """Cross-entropy of aligned logits and of the auxiliary head, and the old network's outputs."""
        assert s.teacher is not None
        old, out = s.teacher(b.x), s.net(b.x)
        z = out.logits + F.linear(old.features, s.local["old"])  # [B, seen]
        terms = {
            "ce": Term(F.cross_entropy(z / s.local["boosting"], b.y)),
            "auxiliary": Term(F.cross_entropy(s.modules["auxiliary"](out.features), b.y)),
        }
        if self.hp.distill:
            value = cross_entropy_kd(z[:, : task.old], old.logits, self.hp.temperature)
            terms["kd"] = Term(value, self.hp.okd_weight)
        return terms

    def compression_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The balanced distillation of both backbones into one."""
        z = s.net(b.x).logits  # [B, seen]
        if not self.hp.distill:
            return {"ce": Term(F.cross_entropy(z, b.y))}
        target = Boosted(**s.nets)(b.x).logits
        return {"kd": Term(balanced_kd(z, target, s.local["compression"], self.hp.temperature))}

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, Boosted(**s.nets) if s.nets else s.net, data, task, g)

    def answering(self, s: State) -> tuple[Network, ...]:
        boosted = self.hp.classifier == "boosted" and s.nets
        return (s.nets["old"].net, s.nets["new"].net) if boosted else (s.net,)

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        z = s.net(x).logits
        return {"student": z, "boosted": Boosted(**s.nets)(x).logits if s.nets else z}
