"""Replay: fine-tuning with stored exemplars, the reference of every data-replay method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.distillation import Distilled
from cl_core.blocks.exemplars import update_exemplars
from cl_core.blocks.losses import fallback_note, separated
from cl_core.hparams import Choice, hp
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("replay")
class Replay(Method):
    """Cross-entropy on new images and exemplars, shuffled together, each once per epoch.

    `loss` adds a distillation on all images of the batch. Every row of the head trains.
    """

    name, title = "replay", "Replay"
    paper = "the field's data-replay reference; separated softmax: Ahn et al., SS-IL, ICCV 2021, eq. 4"
    equation = "CE(softmax(z), y) on new data and exemplars, + usual weight x distillation if chosen"
    paradigm, level, kind = "baseline", "none", "none"
    teacher = True

    @dataclass(frozen=True)
    class HP(Distilled, Budget):
        """The distillation, the budget of exemplars and the softmax."""

        softmax: str = hp(
            "global",
            Choice("global", "separated"),
            doc="global: over all seen classes; separated: new samples over new classes, exemplars over old",
        )

    def check_net(self, features: Tensor, maps: tuple[Tensor, ...]) -> None:
        self.hp.check_maps(maps)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = torch.cat([task.rows, s.memory.ids()])
        yield Phase("train", (Rows(rows),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out = s.net(b.x)
        apart = self.hp.softmax == "separated"
        ce = separated(out.logits, b.y, task) if apart else F.cross_entropy(out.logits, b.y)
        return {"ce": Term(ce), **self.hp.terms(s, out, b, task)}

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.softmax == "separated" else None
