"""Exemplars whose pixels are learned, and kept as images of their own: Mnemonics, Liu et al., CVPR 2020.

The exemplars of the new classes begin as real images. Their class means make a nearest-mean classifier, and
the pixels move until it answers rightly on the task's images. So the inner problem, a classifier of the
exemplars, is solved in closed form, as in the official code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.exemplars import rank
from cl_core.blocks.losses import unit
from cl_core.hparams import Float, hp, hparams, option
from cl_core.images.augment import apply, draw
from cl_core.images.view import EVALUATION_BATCH, View
from cl_core.memory import Budget
from cl_core.nets.network import Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task

LEARNING = {"learn_exemplars": (True,)}


@dataclass(frozen=True)
class Learning(Budget):
    """Hyperparameters of learned exemplars, a base class for those of a method."""

    # The nearest-mean rule reads exemplars of the first task already.
    ACTS_FROM: ClassVar[Mapping[str, int]] = dict.fromkeys(
        (*hparams(Budget), "learn_exemplars", "exemplar_lr", "exemplar_epochs"), 0
    )

    learn_exemplars: bool = option(
        True, False, at_boundary=True, doc="off: real images are kept, as they were chosen"
    )
    exemplar_lr: float = hp(
        0.01,
        Float(1e-4, 0.2, log=True),
        at_boundary=True,
        when=LEARNING,
        doc="of pixels, in units of the data set's deviation; officially SGD at 1e-5",
    )
    exemplar_epochs: float = hp(
        0.1,
        Float(0.01, 5, log=True),
        at_boundary=True,
        when=LEARNING,
        searched=False,
        doc="epochs of learning exemplars for one of training; officially 1 for 160",
    )

    def exemplar_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of the exemplars: Adam at a constant rate, without decay."""
        adam = {"optimizer": "adam", "lr": self.exemplar_lr, "weight_decay": 0.0}
        return recipe.stage(self.exemplar_epochs, schedule="constant", **adam)


class Stored(nn.Module):
    """Stored pixels, uint8 [n, H, W, C], class by class, and the class of each [n]."""

    def __init__(self, pixels: Tensor, labels: Tensor, view: View) -> None:
        super().__init__()
        self.pixels: Tensor
        self.labels: Tensor
        self.register_buffer("pixels", pixels)
        self.register_buffer("labels", labels)
        self._view = view

    def append_to(self, b: Batch, n: int, g: Streams) -> Batch:
        """Append n stored images, augmented as the data set's: different ones, as far as there are n."""
        rounds = -(-n // len(self.labels))
        order = torch.cat([torch.randperm(len(self.labels), generator=g("stored", r)) for r in range(rounds)])
        chosen, augment = order[:n].to(b.x.device), self._view.data.augment
        pixels = apply(self.pixels[chosen], augment, draw(augment, n, g, ("stored",), b.x.device))
        x, y = torch.cat([b.x, self._view.normalised(pixels)]), torch.cat([b.y, self.labels[chosen]])
        return Batch(x, y, rows=torch.cat([b.rows, torch.full_like(chosen, -1)]))

    def some(self, n: int, g: Streams) -> tuple[Tensor, Tensor]:
        """Return n stored images at most, [n, C, H, W], not augmented, and their classes [n]."""
        chosen = torch.randperm(len(self.labels), generator=g("shown"))[:n].to(self.labels.device)
        return self._view.normalised(self.pixels[chosen]), self.labels[chosen]


def first_pixels(budget: Budget, net: Network, data: View, task: Task, g: Streams) -> tuple[Tensor, Tensor]:
    """Return images [n, C, H, W] and classes [n] of the new classes' exemplars before they are learned."""
    counts = budget.counts(task.seen, data.image_bytes)
    rows = [
        rank(budget, net, data, data.rows([c]), counts[c], g("exemplars", c))
        for c in range(task.old, task.seen)
    ]
    labels = data.labels(torch.cat(rows)).to(data.device)
    return data.images(torch.cat(rows)).contiguous(), labels


def nearest_mean_logits(f: Tensor, means: Tensor) -> Tensor:
    """Return the cosines [B, K] of features [B, D] to class means [K, D], in float32."""
    with torch.autocast(f.device.type, enabled=False):
        return unit(f) @ unit(means).T


def means_of(f: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Return the mean feature [K, D] of each of `classes` in f [n, D]; every one has a feature."""
    member = (labels[:, None] == torch.arange(classes.start, classes.stop, device=f.device)).to(f.dtype)
    with torch.autocast(f.device.type, enabled=False):
        return (member.T @ f) / member.sum(dim=0)[:, None]


def keep_learned(s: State, budget: Budget, data: View, task: Task, learned: Tensor, labels: Tensor) -> None:
    """Keep learned images [n, C, H, W] as pixels, after those of old classes, which are cut to the budget."""
    pixels = data.pixels(learned)
    if "exemplars" in s.kept:
        pixels = torch.cat([s.kept["exemplars"], pixels])
        labels = torch.cat([s.kept["labels"], labels])
    counts = budget.counts(task.seen, data.image_bytes)
    places = torch.cat([(labels == c).nonzero()[: counts[c], 0] for c in range(task.seen)])
    s.kept |= {"exemplars": pixels[places], "labels": labels[places]}


@torch.no_grad()
def stored_means(s: State, data: View, classes: int, flip: bool) -> Tensor:
    """Return the normalised mean of the normalised features of stored images by class, [classes, D].

    With `flip` the mirrored images count too, as in iCaRL.
    """
    s.net.eval()
    means = []
    for mirrored in (False, True)[: 1 + flip]:
        parts = [data.normalised(p) for p in s.kept["exemplars"].split(EVALUATION_BATCH)]
        f = torch.cat([s.net(x.flip(3) if mirrored else x).features for x in parts])
        means.append(means_of(F.normalize(f, dim=1), s.kept["labels"], range(classes)))
    return F.normalize(torch.stack(means).mean(dim=0), dim=1)
