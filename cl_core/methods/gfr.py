"""GFR: generative feature replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import feature_distance
from cl_core.blocks.wgan import Adversarial, fixed, keep_modules, place_pair, revive
from cl_core.hparams import Float, Int, Value, hp
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.nets.feature_gan import FEATURE_NOISE, build_feature_gan
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("gfr")
class GFR(Method):
    """Features of old classes from a generator, for the head; the backbone is held to the teacher's features.

    After a task, a conditional WGAN-GP learns the features of its images. Squared distances hold the features
    that it makes of old classes to those that it made before. From the second task on the backbone stays in
    evaluation mode, so no BatchNorm statistic moves. Both terms for old classes are weighed by k, the number
    of old classes for each new one. The distance of the features is the norm of the batch, no mean.

    The official cross-entropy runs over unseen classes too, and the generator skips the last task, which no
    method here knows to be the last. The official switch to class means in place of a generator is left out.
    """

    name, title = "gfr", "Generative Feature Replay"
    paper = "Liu et al., Generative Feature Replay, CVPRW 2020 (arXiv 2004.09199)"
    equation = (
        "(CE(z, y) + k CE(h(G(e, c)), c))/(1 + k) + lambda k |F - F_old| on new images; then WGAN-GP on "
        "features, with + a k sum |G(e, c) - G_old(e, c)|^2 on old c; k = n_old/n_new"
    )
    paradigm, level, kind = "feature replay", "features", "instance feature"
    teacher = True
    memories = ()
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Adversarial):
        """The distillation, the replay alignment, and the generator."""

        distill: bool = fields.distill("the backbone may leave the features that the generator has learned")
        kd_weight: float = fields.stability_weight(
            1.0, 0.01, 10, when=fields.DISTILLING, doc="lambda of the features, before k; official 1"
        )
        align_weight: float = hp(
            1e-3,
            Float(1e-5, 0.1, log=True),
            acts_from=2,  # on the second generator, whose features the third task is the first to read
            at_boundary=True,
            doc="a of the generator's features of old classes, before k; official 1e-3",
        )
        gan_epochs: float = hp(
            2.5,
            Float(0.1, 10, log=True),
            at_boundary=True,
            searched=False,
            doc="epochs of the generator for one of training; official 501 for 201",
        )
        gan_width: int = hp(
            512, Int(4, 4096), at_boundary=True, searched=False, doc="of hidden layers of both; official 512"
        )

    def recipe(self) -> Mapping[str, Value]:
        # Official: Adam at 1e-3, 201 epochs of batches of 128, /10 at 200.
        return {"optimizer": "adam", "lr": 1e-3, "weight_decay": 2e-4, "schedule": "constant"}

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            s.modules["generator"], _ = self._pair(s, data, g)
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss, train_mode=not task.index)

    def _pair(self, s: State, data: View, g: Streams) -> tuple[nn.Module, nn.Module]:
        # Generator and critic, as they were kept or fresh.
        dim, width = s.head.weight.shape[1], self.hp.gan_width
        generator, critic = build_feature_gan(dim, data.num_classes, width, g("gan"))
        revive(s, generator=generator, critic=critic)
        return generator.to(data.device), critic.to(data.device)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        if "generator" not in s.modules:
            return b
        n, drawn = len(b.y), {"noise": torch.randn(len(b.y), FEATURE_NOISE, generator=g("noise"))}
        if task.index:
            drawn["old"] = torch.randint(0, task.old, (n,), generator=g("old classes"))
        if "critic" in s.modules:
            drawn |= {"mix": torch.rand(n, generator=g("mix")), **self.hp.turn(g)}
        return b._replace(drawn={name: value.to(b.x.device) for name, value in drawn.items()})

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        out = s.net(b.x)
        ce = F.cross_entropy(out.logits, b.y)
        if s.teacher is None:
            return {"ce": Term(ce)}
        k, old = task.old / task.new, b.drawn["old"]
        with torch.no_grad():
            made = s.modules["generator"](b.drawn["noise"], old).float()
        replayed = F.cross_entropy(s.net.head(made).float(), old)
        terms = {"ce": Term(ce, 1 / (1 + k)), "replay": Term(replayed, k / (1 + k))}
        if self.hp.distill:
            distance = feature_distance(out.features, s.teacher(b.x).features)
            terms["feature_kd"] = Term(distance, self.hp.kd_weight * k)
        return terms

    def end_phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        params = place_pair(s, lambda: self._pair(s, data, g), task)
        recipe = self.hp.gan_recipe(task.recipe, self.hp.gan_epochs)
        yield Phase("generator", (Rows(task.rows),), recipe, self.gan_loss, params, train_mode=False)
        keep_modules(s, generator=s.modules["generator"], critic=s.modules["critic"])

    def gan_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The terms of the critic, and those of the generator in the steps in which it moves."""
        generator, critic, noise = s.modules["generator"], s.modules["critic"], b.drawn["noise"]
        with torch.no_grad():
            real = s.net(b.x).features
        with torch.autocast(real.device.type, enabled=False), torch.set_grad_enabled("turn" in b.drawn):
            fake = generator(noise, b.y)
            of_generator = {"generator": Term(-fixed(critic)(fake, b.y).mean())}
            if task.index:
                before = s.modules["old generator"](noise, b.drawn["old"])
                moved = (generator(noise, b.drawn["old"]) - before).square().sum()
                weight = self.hp.align_weight * task.old / task.new
                of_generator["alignment"] = Term(moved, weight)
        y = torch.cat([b.y, b.y])
        with torch.autocast(real.device.type, enabled=False):
            terms = self.hp.critic_terms(
                lambda x: critic(x, y[: len(x)]), real, fake.detach(), b.drawn["mix"]
            )
        return terms | of_generator
