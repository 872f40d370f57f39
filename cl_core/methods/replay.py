"""Replay: fine-tuning with stored exemplars, the reference of every data-replay method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cl_core.exemplars import update_exemplars
from cl_core.hparams import Choice, hp
from cl_core.losses import fallback_note, separated
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.view import View


@register("replay")
class Replay(Method):
    """Cross-entropy on new images and exemplars, shuffled together; each exemplar once an epoch."""

    name, title = "replay", "Replay"
    paper = "the field's data-replay reference; separated softmax: Ahn et al., SS-IL, ICCV 2021, eq. 4"
    equation = "CE(softmax(z), y) on new data and exemplars"
    paradigm, level, kind = "baseline", "none", "none"

    @dataclass(frozen=True)
    class HP(Budget):
        """The budget of exemplars, and the softmax."""

        softmax: str = hp(
            "global",
            Choice("global", "separated"),
            doc="global: over all seen classes; separated: new samples over new classes, exemplars over old",
        )

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        self.hp.check_budget(sum(sizes), math.prod(shape))

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = torch.cat([task.rows, s.memory.ids()])
        yield Phase("train", (Rows(rows),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        if self.hp.softmax == "separated":
            return {"ce": Term(separated(z, b.y, task))}
        return {"ce": Term(F.cross_entropy(z, b.y))}

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.softmax == "separated" else None
