"""DER++ as a method of one's own: it keeps an answer for every exemplar and finds it by the row's id."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cl_core.blocks.exemplars import update_exemplars
from cl_core.hparams import Float, hp
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


class DERpp(Method):
    """Cross-entropy on all images, and the squared distance of each exemplar's logits to those it was stored
    with. There is no teacher.

    Kept are `rows` [n] in ascending order, `logits` [n, seen] and `known` [n, seen], which is 1 for a class
    that had been seen when the exemplar was stored, else 0.
    """

    name, title = "derpp", "DER++"
    paper = "Buzzega et al., Dark Experience for General Continual Learning, NeurIPS 2020 (arXiv 2004.07211)"
    equation = "CE(new) + beta CE(exemplars) + alpha |z - z_stored|^2"
    paradigm, level, kind = "data replay", "logits", "logit matching"
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Budget):
        """The two weights of the paper."""

        alpha: float = hp(0.3, Float(0.01, 5, log=True), stability=True, doc="of the stored logits")
        beta: float = hp(0.5, Float(0.1, 5, log=True), doc="of the exemplars' cross-entropy")

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        self.hp.check_budget(sum(sizes), math.prod(shape))

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        yield Phase("train", (Rows(torch.cat([task.rows, s.memory.ids()])),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        ce, old = F.cross_entropy(z, b.y, reduction="none"), b.y < task.old
        terms = {"ce": Term((ce * ~old).mean())}
        if not task.index:
            return terms
        at = torch.searchsorted(s.kept["rows"], b.rows[old])
        known = s.kept["known"][at]
        apart = (z[old, : task.old] - s.kept["logits"][at]).square() * known
        return terms | {
            "replay": Term((ce * old).mean(), self.hp.beta),
            "dark": Term(apart.sum() / known.sum().clamp(min=1), self.hp.alpha),
        }

    @torch.no_grad()
    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)
        rows = s.memory.ids().sort().values
        s.net.eval()
        logits = torch.cat([s.net(b.x).logits for b in data.batches(rows)])
        known = torch.ones_like(logits)
        rows = rows.to(logits.device)
        if task.index:
            stays = torch.isin(rows, s.kept["rows"])
            at = torch.searchsorted(s.kept["rows"], rows[stays])
            known[stays] = F.pad(s.kept["known"][at], (0, task.new))
            logits[stays] = F.pad(s.kept["logits"][at], (0, task.new))
        s.kept |= {"rows": rows, "logits": logits, "known": known}
