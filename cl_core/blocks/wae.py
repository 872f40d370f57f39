"""A Wasserstein autoencoder with the MMD penalty (Tolstikhin et al., ICLR 2018), on new and made images.

The kernel is the sum of seven inverse multiquadratics, as in PGMA's official code. Each image has a weight,
so old and new classes can count by their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cl_core.blocks import fields
from cl_core.hparams import Float, Int, hp
from cl_core.nets.adapted import AdaptedNetwork
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels, times twice the numbers of an embedding


@dataclass(frozen=True)
class Autoencoding:
    """Hyperparameters of the autoencoder, a base class for those of a method."""

    latent: int = hp(
        16, Int(2, 512), acts_from=0, searched=False, doc="numbers of an embedding; official 32, or 64"
    )
    wae_width: int = hp(
        32, Int(4, 256), acts_from=0, searched=False, doc="channels of outer layers; official 64"
    )
    wae_lr: float = hp(
        1e-3, Float(1e-5, 1e-2, log=True), acts_from=0, searched=False, doc="of Adam; official 1e-3"
    )
    wae_epochs: float = hp(
        2.0,
        Float(0.1, 50, log=True),
        acts_from=0,
        searched=False,
        doc="epochs of the autoencoder for one of training; official 2 steps for one",
    )
    match_weight: float = hp(
        2000.0,
        Float(1, 100_000, log=True),
        acts_from=0,
        searched=False,
        doc="of the penalty that embeddings be normal; decided; official 200 first, then 8",
    )

    replay_ratio: float = hp(
        1.0,
        Float(0.1, 8),
        when=fields.DISTILLING,
        searched=False,
        doc="made images for each new one; official 4",
    )

    def wae_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of the autoencoder: Adam at a constant rate, without decay."""
        return recipe.stage(
            self.wae_epochs, optimizer="adam", lr=self.wae_lr, weight_decay=0.0, schedule="constant"
        )

    def wae_params(self, net: AdaptedNetwork) -> tuple[nn.Parameter, ...]:
        """The parameters of encoder and decoder."""
        return (*net.encoder.parameters(), *net.decoder.parameters())

    def draw(self, s: State, b: Batch, g: Streams, made: bool) -> Batch:
        """Draw the normal numbers of a step, as many as new images; with `made`, append made images.

        Their targets, the previous solver's logits [made, old], are drawn as "answers", their labels are the
        largest of these, and their row ids -1.
        """
        drawn = {"prior": torch.randn(len(b.y), self.latent, generator=g("prior")).to(b.x.device)}
        if not made:
            return b._replace(drawn=drawn)
        n = max(1, round(self.replay_ratio * len(b.y)))
        x, answers = self.made_images(s, n, g)
        y, rows = torch.cat([b.y, answers.argmax(dim=1)]), torch.cat([b.rows, b.rows.new_full((n,), -1)])
        return Batch(torch.cat([b.x, x]), y, drawn | {"answers": answers}, rows)

    @torch.no_grad()
    def made_images(self, s: State, n: int, g: Streams) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] of the previous decoder, and the previous solver's logits [n, old] for them."""
        assert s.teacher is not None
        noise = torch.randn(n, self.latent, generator=g("noise"))
        x = cast(AdaptedNetwork, s.teacher.net).decode(noise.to(s.head.weight.device))
        return x, s.teacher(x).logits

    def pictures(self, s: State, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        """Return n made images [n, C, H, W] and their labels [n]; None before there are old classes."""
        if s.teacher is None:
            return None
        x, answers = self.made_images(s, n, g)
        return x, answers.argmax(dim=1)

    def wae_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The terms of the autoencoder; old and new classes count by their number."""
        net, prior = cast(AdaptedNetwork, s.net), b.drawn["prior"]
        made = len(b.drawn.get("answers", ()))
        weights = torch.full_like(prior[:, 0], 1.0 / len(prior))
        if made:
            of_made = weights.new_full((made,), task.old / task.seen / made)
            weights = torch.cat([weights * (task.new / task.seen), of_made])
        with torch.autocast(b.x.device.type, enabled=False):
            codes = net.encoder(b.x)
            apart = ((net.decode(codes) - b.x) * net.decoder.std).square().sum(dim=(1, 2, 3))
            return {
                "reconstruction": Term((weights * apart).sum()),
                "match": Term(mmd(codes, prior, weights), self.match_weight),
            }


def mmd(codes: Tensor, prior: Tensor, weights: Tensor) -> Tensor:
    """Return the MMD^2 of embeddings [B, L] with weights [B], whose sum is 1, and normal numbers [P, L].

    It is an estimate without bias: no pair of an image with itself enters. So it can be below zero.
    """
    equal = torch.full_like(prior[:, 0], 1.0 / len(prior))
    value = codes.new_zeros(())
    squares = [
        (a, b, _squared_distances(x, y))
        for a, b, x, y in (
            (weights, weights, codes, codes),
            (equal, equal, prior, prior),
            (weights, equal, codes, prior),
        )
    ]
    for scale in SCALES:
        c = 2.0 * codes.shape[1] * scale
        own, of_prior, both = (a @ (c / (c + d)) @ b for a, b, d in squares)
        value = value + _without_diagonal(own, weights) + _without_diagonal(of_prior, equal) - 2.0 * both
    return value


def _without_diagonal(total: Tensor, weights: Tensor) -> Tensor:
    # The kernel of a point with itself is 1.
    same = weights.square().sum()
    return (total - same) / (1.0 - same).clamp_min(1e-6)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2.0 * x @ y.T).clamp_min(0.0)
