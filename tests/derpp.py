# derpp.py
"""DER++, dark experience replay: an exemplar keeps the logits that the network gave it."""

from __future__ import annotations

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
    """Cross-entropy on all images, and the squared distance of an exemplar's logits to its stored ones."""

    name, title = "derpp", "DER++"
    paper = "Buzzega et al., Dark Experience for General Continual Learning, NeurIPS 2020 (arXiv 2004.07211)"
    equation = "CE(new) + beta CE(exemplars) + alpha |z - z_stored|^2"
    paradigm, level, kind = "data replay", "logits", "logit matching"
    answers_with = ()  # `scores` reads nothing of State.kept

    @dataclass(frozen=True)
    class HP(Budget):
        """The two weights of the paper, and the budget of exemplars."""

        alpha: float = hp(0.1, Float(0.01, 5, log=True), stability=True, doc="of the stored logits")
        beta: float = hp(0.5, Float(0.1, 5, log=True), doc="of the exemplars' cross-entropy")

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        yield Phase("train", (Rows(torch.cat([task.rows, s.memory.ids()])),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]; one forward for new images and exemplars
        ce, old = F.cross_entropy(z, b.y, reduction="none"), b.y < task.old
        terms = {"ce": Term((ce * ~old).mean())}
        if not task.index:
            return terms
        stored = s.kept["logits"][torch.searchsorted(s.kept["rows"], b.rows[old])]  # [exemplars, old]
        ends = torch.tensor([end for start, end in task.groups for _ in range(start, end)], device=z.device)
        # An exemplar was stored at the end of its own task, before later classes had a logit.
        known = torch.arange(task.old, device=z.device) < ends[b.y[old], None]
        apart = (z[old, : task.old] - stored).square() * known
        return terms | {
            "replay": Term((ce * old).mean(), self.hp.beta),
            "dark": Term(apart.sum() / known.sum().clamp(min=1), self.hp.alpha),
        }

    @torch.no_grad()
    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)
        new = s.memory.ids(range(task.old, task.seen))
        s.net.eval()
        logits = torch.cat([s.net(b.x).logits for b in data.batches(new)])
        rows = new.to(logits.device)
        if task.index:
            stays = torch.isin(s.kept["rows"], s.memory.ids().to(rows.device))
            rows = torch.cat([s.kept["rows"][stays], rows])
            logits = torch.cat([F.pad(s.kept["logits"][stays], (0, task.new)), logits])
        order = rows.argsort()  # searchsorted needs ascending rows
        s.kept |= {"rows": rows[order], "logits": logits[order]}
