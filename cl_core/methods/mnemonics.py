"""Mnemonics: exemplars that are learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.classifiers import Reading, nearest_mean
from cl_core.blocks.learned_exemplars import (
    Learning,
    Stored,
    first_pixels,
    keep_learned,
    means_of,
    nearest_mean_logits,
    stored_means,
)
from cl_core.hparams import Value, option
from cl_core.images.view import View
from cl_core.method import METHODS, Base, Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("mnemonics")
class Mnemonics(Method):
    """Another method's training with exemplars whose pixels are learned after each task, and kept.

    The method in `wraps` gives network, losses and the rule that answers; LwF's cross-entropy has all seen
    classes here. Each step has new images and as many stored ones as their share. At the end of a task the
    exemplars of its classes move until nearest class means answer rightly on its images. Only learned pixels
    are kept, no row of the data set.

    The official code moves pixels by SGD at 1e-5, which rounds to the images themselves, and cuts numbers to
    integers, which darkens them; here Adam moves them, and they are rounded. Its cosine net has scales on
    frozen weights for the two last, which are left out here, as is the paper's change of old exemplars.
    """

    name, title = "mnemonics", "Mnemonics"
    paper = "Liu et al., Mnemonics Training, CVPR 2020 (arXiv 2002.10211)"
    equation = (
        "min_E CE(cos(f(x), mean f(E_c)), y) on the task's x, f fixed (eq. 8-9; the inner classifier is "
        "nearest-mean, as in the official code); the wrapped method's loss on new images and E"
    )
    paradigm = "data replay"
    level, kind = "explicit data, logits or features", "learned exemplars, that of the method wrapped"
    teacher = True
    answers_with = ("class_means",)

    @dataclass(frozen=True)
    class HP(Learning):
        """The method that is wrapped, its distillation, and how exemplars are learned."""

        wraps: str = option("icarl", "lwf", "lucir", acts_from=0, doc="the method that trains the network")
        distill: bool = fields.distill("the wrapped method without its distillation")
        kd_weight: float = fields.stability_weight(
            1.0, 0.1, 6, when=fields.DISTILLING, doc="multiple of the wrapped method's usual weight"
        )

    def wrapped(self) -> Method:
        """The method that trains the network."""
        weight = self.hp.kd_weight
        usual: dict[str, dict[str, Value]] = {
            "icarl": {"old_weight": weight},
            "lucir": {"kd_weight": 5 * weight},
            "lwf": {"kd_weight": 0.25 * weight, "ce_scope": "all_seen"},
        }
        return METHODS[self.hp.wraps]({"distill": self.hp.distill, **usual[self.hp.wraps]})

    def base(self) -> Base:
        return self.wrapped().base()

    def recipe(self) -> Mapping[str, Value]:
        return self.wrapped().recipe()

    def primary(self) -> str:
        return self.wrapped().primary()

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        self.wrapped().begin(s, task, data, g)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            s.modules["stored"] = Stored(s.kept["exemplars"], s.kept["labels"], data)
        yield from self.wrapped().phases(s, task, data, g)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        stored = s.modules.get("stored")
        return None if stored is None else stored.some(n, g)  # type: ignore[operator]

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        stored = s.modules.get("stored")
        if stored is None or "pixels" in s.local:
            return b
        n = max(1, round(len(b.y) * len(stored.labels) / len(task.rows)))  # type: ignore[arg-type]
        return stored.append_to(b, n, g)  # type: ignore[operator]

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        return self.wrapped().loss(s, b, task)

    def end_phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        images, labels = first_pixels(self.hp, s.net, data, task, g)
        s.local |= {"pixels": nn.Parameter(images), "labels": nn.Parameter(labels, requires_grad=False)}
        if self.hp.learn_exemplars:
            # The means of old classes, as they are now, are answers as well.
            old = stored_means(s, data, task.old, flip=False) if task.index else images.new_zeros(0)
            s.local["old means"] = nn.Parameter(old, requires_grad=False)
            recipe, params = self.hp.exemplar_recipe(task.recipe), (s.local["pixels"],)
            yield Phase("exemplars", (Rows(task.rows),), recipe, self.exemplar_loss, params, train_mode=False)
        keep_learned(s, self.hp, data, task, s.local["pixels"].detach(), labels)

    def exemplar_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The loss of the nearest-mean rule on the task's images, with a gradient in the exemplars alone."""
        with torch.no_grad():
            f = s.net(b.x).features
        new = means_of(s.net(s.local["pixels"]).features, s.local["labels"], range(task.old, task.seen))
        means = torch.cat([s.local["old means"], new]) if task.index else new
        return {"exemplars": Term(F.cross_entropy(nearest_mean_logits(f, means), b.y))}

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        s.kept["class_means"] = stored_means(s, data, task.seen, data.data.augment.flip)

    def reading(self, scores: Tensor) -> Reading:
        return self.wrapped().reading(scores)

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        out = s.net(x)
        return {"head": out.logits, "nearest-mean": nearest_mean(out.features, s.kept["class_means"])}
