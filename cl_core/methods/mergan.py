"""MeRGAN: memory replay by a generator of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.wgan import Adversarial, fixed, keep_modules, place_pair, revive
from cl_core.hparams import Float, Int, hp, option
from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.nets.image_gan import IMAGE_NOISE, apart, build_image_gan, images_of
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

ALIGNING: fields.Branch = {"replay": ("alignment",), **fields.DISTILLING}


@register("mergan")
class MeRGAN(Method):
    """Images of old classes from a conditional generator, which keeps them by its own former images.

    After a task a WGAN-GP with an auxiliary classifier learns the images of its classes. Old classes are kept
    by joint training (the frozen generator's images are real ones of old classes) or by alignment (from equal
    noise it makes the former images). In the next task the classifier trains on new images and made ones.

    The paper is about generation; the classifier is decided here, with as many made images as new ones. The
    official code has one class in a task, whose weight each old class has too; here old classes have together
    the weight of the new ones, and the penalty covers both.
    """

    name, title = "mergan", "MeRGAN"
    paper = "Wu et al., Memory Replay GANs, NeurIPS 2018 (arXiv 1809.02058)"
    equation = (
        "CE(z, y) on new and made images; then WGAN-GP + CE of classes, on new images and G_old(e, c) as "
        "real ones (joint), or on new ones with + a/2 |G(e, c) - G_old(e, c)|^2/n_old on old c (alignment)"
    )
    paradigm, level, kind = "generated data", "explicit data", "generator"
    memories = ()
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Adversarial):
        """The replay in the classifier and in the generator, and the generator."""

        distill: bool = option(
            True,
            False,
            acts_from=2,  # on the second generator, whose images the third task is the first to read
            at_boundary=True,
            doc="off: the generator learns new classes alone",
        )
        replay: str = option(
            "joint",
            "alignment",
            acts_from=2,
            at_boundary=True,
            when=fields.DISTILLING,
            doc="how the generator keeps old classes: joint training with replay, or replay alignment",
        )
        align_weight: float = hp(
            1e-3,
            Float(1e-5, 0.1, log=True),
            acts_from=2,
            at_boundary=True,
            when=ALIGNING,
            doc="a of the former images; official 1e-3 (MNIST), 1e-2 (SVHN)",
        )
        replay_ratio: float = hp(1.0, Float(0.1, 4), searched=False, doc="made images for each new one")
        gan_epochs: float = hp(
            3.0,
            Float(0.1, 10, log=True),
            at_boundary=True,
            searched=False,
            doc="epochs of the generator for one of training; official 213 in all on MNIST",
        )
        gan_width: int = hp(
            32, Int(4, 256), at_boundary=True, searched=False, doc="channels of outer layers; official 32"
        )

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        if task.index:
            s.modules["old generator"], _ = self._pair(s, data, g)
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss)

    def _pair(self, s: State, data: View, g: Streams) -> tuple[nn.Module, nn.Module]:  # as kept, or fresh
        spec, classes = data.data, data.num_classes
        pair = build_image_gan(spec.shape, classes, self.hp.gan_width, spec.mean, spec.std, g("gan"))
        revive(s, generator=pair[0], critic=pair[1])
        return pair[0].to(data.device), pair[1].to(data.device)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        old = s.modules.get("old generator")
        return None if old is None else images_of(old, n, task.old, g("noise"), g("classes"))

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        learning = "critic" in s.modules  # generator and critic train, not the network
        if task.index and (not learning or (self.hp.distill and self.hp.replay == "joint")):
            b = self._with_old(s, b, task, g)
        if not learning:
            return b
        n, drawn = len(b.y), {"noise": torch.randn(len(b.y), IMAGE_NOISE, generator=g("noise"))}
        drawn |= {"mix": torch.rand(n, generator=g("mix")), **self.hp.turn(g)}
        if task.index:
            drawn["old"] = torch.randint(0, task.old, (n,), generator=g("old classes"))
        return b._replace(drawn={name: value.to(b.x.device) for name, value in drawn.items()})

    @torch.no_grad()
    def _with_old(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        n = max(1, round(self.hp.replay_ratio * len(b.y)))
        x, y = images_of(s.modules["old generator"], n, task.old, g("old noise"), g("made classes"))
        rows = torch.cat([b.rows, torch.full_like(y, -1)])
        return Batch(torch.cat([b.x, x]), torch.cat([b.y, y]), rows=rows)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}

    def end_phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        params = place_pair(s, lambda: self._pair(s, data, g), task)
        recipe = self.hp.gan_recipe(task.recipe, self.hp.gan_epochs)
        yield Phase("generator", (Rows(task.rows),), recipe, self.gan_loss, params, train_mode=False)
        keep_modules(s, generator=s.modules["generator"], critic=s.modules["critic"])

    def gan_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The terms of the critic, and those of the generator in the steps in which it moves."""
        generator, critic, noise = s.modules["generator"], s.modules["critic"], b.drawn["noise"]
        with torch.autocast(b.x.device.type, enabled=False), torch.set_grad_enabled("turn" in b.drawn):
            fake = generator(noise, b.y)
            score, z = fixed(critic)(fake)
            made: dict[str, Term] = {"generator": Term(-score.mean()), "made classes": self._of(z, b, task)}
            if task.index and self.hp.distill and self.hp.replay == "alignment":
                moved = apart(generator, s.modules["old generator"], noise, b.drawn["old"])
                made["alignment"] = Term(moved / task.old, self.hp.align_weight)
        with torch.autocast(b.x.device.type, enabled=False):
            terms = self.hp.critic_terms(lambda x: critic(x)[0], b.x, fake.detach(), b.drawn["mix"])
            terms["real classes"] = self._of(critic(b.x)[1], b, task)
        return terms | made

    def _of(self, z: Tensor, b: Batch, task: Task) -> Term:
        return Term(F.cross_entropy(z[:, : task.seen], b.y))
