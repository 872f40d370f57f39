"""RPS-Net: random path selection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.exemplars import update_exemplars
from cl_core.blocks.losses import kd
from cl_core.blocks.paths import divided, mean_accuracy, open_path, opened_modules
from cl_core.hparams import Float, Int, Value, hp
from cl_core.images.view import View
from cl_core.memory import Budget
from cl_core.method import Method, Phase, Rows, register
from cl_core.nets.beside import training_only
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term, no_rows


@register("rps_net")
class RPSNet(Method):
    """Paths through parallel modules: a new one every J tasks, at random; modules of older paths are frozen.

    Each layer of the net may have M modules, whose outputs are added: those of all paths so far answer. The
    first path is the net itself. A later path takes one module in each layer. Those that no earlier path has
    are opened and train for J tasks, with the head; the others are shared as they are. With several
    candidates each path trains in turn at the first of its tasks. The best on a tenth of the training rows,
    held out meanwhile, stays. A controller phi raises the weight of the distillation with the tasks.

    Read: the official code, github.com/brjathu/RPSnet at 40a884d. It chooses path and epoch by test accuracy
    of eight runs. Its distillation is no divergence: raw logits beside zeros and a one are the targets, and
    each entry is clamped at zero; here it is the divergence over old classes. Its teacher already has the
    new, untrained modules, frozen modules move in BatchNorm, its net has 3x3 convolutions beside the modules
    where the width changes, and they always train; here shortcuts are frozen with the first path. Unused
    modules are not made here, so `parameters` counts those of the paths.
    """

    name, title = "rps_net", "RPS-Net"
    paper = (
        "Rajasegaran et al., Random Path Selection for Incremental Learning, NeurIPS 2019 (arXiv 1906.01120)"
    )
    equation = (
        "CE + lambda phi_t KL(softmax(z_old/T) || softmax(z[old]/T)), phi_t = 1 for t <= J, else "
        "gamma (t - J); a layer gives sum_m F_m(x) over the modules m of all paths so far"
    )
    paradigm, level, kind = "architecture", "logits", "probability matching"
    teacher, grows = True, True
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Budget):
        """Modules and paths, the distillation and its controller."""

        distill: bool = fields.distill("cross-entropy alone")
        kd_weight: float = fields.stability_weight(
            1.0, 0.1, 10, when=fields.DISTILLING, doc="lambda, beside phi; official code 1"
        )
        rigidness: float = hp(
            2.5,
            Float(0.1, 10, log=True),
            acts_from=2,
            when=fields.DISTILLING,
            doc="gamma of phi; official code 2.5",
        )
        temperature: float = fields.temperature("T, without T^2", searched=False)
        jump: int = hp(2, Int(1, 5), doc="J, tasks that train one path; official code 2")
        modules: int = hp(
            8, Int(1, 8), searched=False, doc="M, modules that a layer may have; official code 8"
        )
        candidates: int = hp(
            1,
            Int(1, 8),
            searched=False,
            doc="N, paths of which the best stays; official code 8, by test rows",
        )

    def recipe(self) -> Mapping[str, Value]:
        # Official: Adam without weight decay, halved at epochs 20, 40, 60 and 80 of 100.
        steps: dict[str, Value] = {"schedule": "step", "gamma": 0.5, "milestones": "0.2,0.4,0.6,0.8"}
        return {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, **steps}

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        rows = torch.cat([task.rows, s.memory.ids()])
        if task.index < self.hp.jump:
            yield Phase("train", (Rows(rows),), task.recipe, self.loss)
            return
        # Where J is searched task by task, a path may begin at any task.
        if task.index % self.hp.jump and "opened" in s.kept:
            with training_only(s.net, opened_modules(s.net, s.kept["opened"])) as params:
                yield Phase("train", (Rows(rows),), task.recipe, self.loss, params=params)
            return
        train, held = divided(rows, data, task, g) if self.hp.candidates > 1 else (rows, no_rows())
        before = {name: tensor.clone() for name, tensor in s.net.state_dict().items()}
        best = -1.0
        for n in range(self.hp.candidates):
            s.net.load_state_dict(before)
            opened = open_path(s.net, self.hp.modules, g.at("candidate", n))
            with training_only(s.net, opened_modules(s.net, opened)) as params:
                name = f"candidate {n + 1}" if n else "train"
                yield Phase(name, (Rows(train),), task.recipe, self.loss, params=params)
            accuracy = mean_accuracy(s.net, data, held)
            if accuracy > best:
                best, kept = accuracy, {name: t.clone() for name, t in s.net.state_dict().items()}
                s.kept["opened"] = opened.to(data.device)
        s.net.load_state_dict(kept)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        z = s.net(b.x).logits  # [B, seen]
        terms = {"ce": Term(F.cross_entropy(z, b.y))}
        if s.teacher is not None and self.hp.distill:
            temperature = self.hp.temperature
            value = kd(z[:, : task.old], s.teacher(b.x).logits, temperature) / temperature**2
            terms["kd"] = Term(value, self.hp.kd_weight * self.controller(task.index))
        return terms

    def controller(self, index: int) -> float:
        """Phi: the weight of the distillation in task `index`."""
        past = index - self.hp.jump
        return self.hp.rigidness * past if past > 0 else 1.0

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        update_exemplars(self.hp, s.memory, s.net, data, task, g)
