"""OCFMA: a solver that is adapted to each image, with old images from an autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks import fields
from cl_core.blocks.losses import cross_entropy_kd, fallback_note, new_only
from cl_core.blocks.wae import Autoencoding
from cl_core.hparams import Float, Int, Value, hp, hparams, option
from cl_core.images.view import View
from cl_core.method import Base, Method, Phase, Rows, register
from cl_core.nets.adapted import AdaptedNetwork
from cl_core.nets.network import Network
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

OFFICIAL: dict[str, Value] = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}


@register("ocfma")
class OCFMA(Method):
    """A solver that is adapted to each image, kept by its own former answers to images of an autoencoder.

    A part of the head's weights is generated for each image, from its embedding by the encoder. In later
    tasks the frozen decoder makes images of old classes, and the frozen solver's answers are their targets.

    Read were the official code (morning-dews/PGMA_tensorflow) and the abstract. Its solver is a perceptron,
    held by squared distances of its layers, with the outputs of unseen classes. Here soft answers hold it,
    in which new classes have the probability 0. Its autoencoder trains beside the solver, and is held to
    former embeddings and images. Here it trains first, on made images as on new ones. Dropout, noise and
    pretraining are left out. By a slip, official weights are generated for other images of the batch.

    Decided here: made images are blurred, so the solver would take sharp ones for new. With `reconstruct`,
    it compares new classes with old ones in reconstructed images alone.
    """

    name, title = "ocfma", "OCFMA"
    paper = "Hu et al., Overcoming Catastrophic Forgetting via Model Adaptation, ICLR 2019 (PGMA)"
    equation = (
        "CE(z, y) on new images + m CE-KD(z, z_old) on x' = D_old(e), z = W f_1 + H(E(x)) f_2 + b; "
        "|D(E(x)) - x|^2 + lambda MMD(E(x), e) on both, e ~ N(0, 1)"
    )
    paradigm, level, kind = "generated data", "explicit data, logits", "generator, probability matching"
    teacher = True
    memories = ()
    answers_with = ()

    @dataclass(frozen=True)
    class HP(Autoencoding):
        """The distillation, the generated part of the head, and the autoencoder."""

        distill: bool = fields.distill("solver and autoencoder learn new images alone")
        kd_weight: float = fields.stability_weight(
            1.0, 0.1, 10, when=fields.DISTILLING, doc="of the previous solver's answers to made images"
        )
        temperature: float = hp(1.0, Float(1, 5), when=fields.DISTILLING, doc="T of these answers, with T^2")
        reconstruct: bool = option(
            True,
            False,
            acts_from=0,
            doc="new and old classes are told apart in reconstructed images; off: in real ones, as official",
        )
        adapted_share: float = hp(
            0.5,
            Float(0.01, 0.99),
            acts_from=0,
            searched=False,
            doc="features whose weights are generated, of all; official .13, or .8 with few tasks",
        )
        adapter_width: int = hp(
            128, Int(4, 2048), acts_from=0, searched=False, doc="of its two hidden layers; official 1000"
        )

    def base(self) -> Base:
        early = {n: v for n, v in self.values().items() if hparams(self.HP)[n].trains(0)}
        return Base("adapted", parameters=early, recipe=OFFICIAL)

    def recipe(self) -> Mapping[str, Value]:
        return OFFICIAL

    def build(self, make: Callable[[], Network]) -> State:
        h = self.hp
        sizes = h.adapted_share, h.latent, h.adapter_width, h.wae_width

        def adapted() -> Network:
            net = make()
            return AdaptedNetwork(net, *sizes).to(next(net.parameters()).device)

        return super().build(adapted)

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        net = _adapted(s.net)
        if not task.index:
            net.draw(g("adapted"))
        net.scale(data.data.mean, data.data.std)
        super().begin(s, task, data, g)

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        net, rows = _adapted(s.net), (Rows(task.rows),)
        recipe, params = self.hp.wae_recipe(task.recipe), self.hp.wae_params(net)
        yield Phase("autoencoder", rows, recipe, self.hp.wae_loss, params, train_mode=False)
        solver = (*net.backbone.parameters(), *net.head.parameters())
        yield Phase("train", rows, task.recipe, self.loss, solver)

    def augment(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        return self.hp.draw(s, b, g, made=task.index > 0 and self.hp.distill)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        net, answers = _adapted(s.net), b.drawn.get("answers")
        made = 0 if answers is None else len(answers)
        n, share = len(b.y) - made, task.old / task.seen if made else 0.0
        new, y = b.x[:n], b.y[:n]
        if self.hp.reconstruct:
            with torch.no_grad():
                again = net.decode(net.encoder(new))
            z = net(torch.cat([new, again, b.x[n:]])).logits  # [2n + made, seen]
            terms = {
                "ce": Term(new_only(z[:n], y, task), (1.0 - share) / 2),
                "reconstructed": Term(F.cross_entropy(z[n : 2 * n], y), (1.0 - share) / 2),
            }
        else:
            z = net(b.x).logits  # [n + made, seen]
            terms = {"ce": Term(F.cross_entropy(z[:n], y), 1.0 - share)}
        if answers is not None:
            # The previous solver gives new classes the probability 0.
            target = F.pad(answers, (0, task.new), value=-torch.inf)
            t = self.hp.temperature
            kd = t * t * cross_entropy_kd(z[-made:], target, t)
            terms["kd"] = Term(kd, self.hp.kd_weight * share)
        return terms

    def note(self, task: Task) -> str | None:
        return fallback_note(task) if self.hp.reconstruct else None

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        return self.hp.pictures(s, n, g)


def _adapted(net: Network) -> AdaptedNetwork:
    return cast(AdaptedNetwork, net)
