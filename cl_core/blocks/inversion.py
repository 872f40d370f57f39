"""Model inversion: a generator learns to make images that the previous network takes for old ones.

It trains at the start of a task, in a phase without rows, and is frozen for the rest of the task. It is not
kept. The terms are those of ABD (Smith et al., Always Be Dreaming, ICCV 2021), which R-DFCIL (Gao et
al., ECCV 2022) takes over; what the papers leave open is as in the official codes of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.losses import wide
from cl_core.hparams import Float, Int, hp
from cl_core.images.view import EVALUATION_BATCH, View
from cl_core.nets.generator import LATENT, build_generator
from cl_core.nets.network import Network
from cl_core.recipe import Recipe
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Out, Task, Term

CPU = torch.device("cpu")
EPSILON = 1e-8  # added to every variance, as in the official codes


@dataclass(frozen=True)
class Inversion:
    """Hyperparameters of the generator and its training, a base class for those of a method."""

    inversion: float = hp(
        1.0,
        Float(0.1, 4, log=True),
        searched=False,
        doc="epochs of the generator for one of training: ABD's 10,000 steps are 1.02 on 5,000 images",
    )
    inversion_lr: float = hp(
        1e-3, Float(1e-4, 1e-2, log=True), searched=False, doc="constant learning rate of Adam"
    )
    statistics_weight: float = hp(
        50.0, Float(1, 200, log=True), searched=False, doc="of the BatchNorm statistics; official 50"
    )
    smoothness_weight: float = hp(
        1e-3, Float(1e-4, 1, log=True), searched=False, doc="of the distance to the blurred image; 1e-3"
    )
    content_temperature: float = hp(
        1000.0, Float(1, 2000, log=True), searched=False, doc="divides the logits of the content loss; 1000"
    )
    generator_width: int = hp(128, Int(8, 256), searched=False, doc="channels of the generator; 128")

    def new_generator(self, s: State, data: View, g: Streams) -> tuple[nn.Parameter, ...]:
        """Put a fresh generator into `s.modules`, and return its parameters."""
        made = build_generator(data.data.shape, self.generator_width, g("generator"))
        s.modules["generator"] = made.to(data.device)
        return tuple(made.parameters())

    def generator_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of the generator's training: Adam at a constant rate, without decay."""
        return recipe.stage(
            self.inversion, optimizer="adam", lr=self.inversion_lr, weight_decay=0.0, schedule="constant"
        )

    def steps(self, task: Task) -> int:
        """The steps of an epoch: as many as the new images make."""
        return math.ceil(len(task.rows) / task.recipe.batch)

    def make_images(self, s: State, b: Batch, task: Task, g: Streams) -> Batch:
        """Draw noise for a step without images; else append as many made images as there are.

        Their labels [B] are the classes that the teacher sees in them, their row ids -1.
        """
        n = len(b.y)
        noise = torch.randn(n or task.recipe.batch, LATENT, generator=g("noise")).to(b.x.device)
        if not n:
            return b._replace(drawn={"noise": noise})
        x, y = made(s, noise)
        return Batch(
            torch.cat([b.x, x]), torch.cat([b.y, y]), rows=torch.cat([b.rows, torch.full_like(y, -1)])
        )

    def pictures(self, s: State, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        """Return n made images [n, C, H, W] and their labels [n]; None before a generator is there."""
        if "generator" not in s.modules:
            return None
        s.modules["generator"].eval()
        noise = torch.randn(n, LATENT, generator=g("noise")).to(s.head.weight.device)
        parts = [made(s, part) for part in noise.split(EVALUATION_BATCH)]
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    def inversion_loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        """The four terms of the generator, for the noise of a step."""
        assert s.teacher is not None
        x = s.modules["generator"](b.drawn["noise"])
        out, gap = statistics_gap(s.teacher.net, x)
        return {
            "content": Term(content(out.logits, self.content_temperature)),
            "balance": Term(imbalance(out.logits)),
            "statistics": Term(gap, self.statistics_weight),
            "smoothness": Term(roughness(x), self.smoothness_weight),
        }


@torch.no_grad()
def made(s: State, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] of the generator, and the old class [B] that the teacher sees in each."""
    assert s.teacher is not None
    x = s.modules["generator"](noise)
    return x, s.teacher(x).logits.argmax(dim=1)


def made_labels(s: State, n: int, g: Streams) -> Tensor:
    """The old classes [n] that the teacher sees in n made images, drawn from "dreams"."""
    s.modules["generator"].eval()
    noise = torch.randn(n, LATENT, generator=g("dreams")).to(s.head.weight.device)
    return torch.cat([made(s, part)[1] for part in noise.split(EVALUATION_BATCH)])


def content(z: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of z/T, [B, K], with its own top class: low for images of one class."""
    return F.cross_entropy(wide(z) / temperature, z.argmax(dim=1))


def imbalance(z: Tensor) -> Tensor:
    """Return 1 - H(p)/log K for the mean p of softmax(z), z [B, K]: 0 for equal classes, 1 for one alone."""
    p = F.softmax(wide(z), dim=1).mean(dim=0)
    if len(p) == 1:
        return 0.0 * p.sum()
    return 1.0 + (p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum() / math.log(len(p))


def statistics_gap(net: Network, x: Tensor) -> tuple[Out, Tensor]:
    """Return the outputs for images x [B, C, H, W], and the mean of `normal_gap` over all BatchNorms.

    The network must be in evaluation mode. Raises RuntimeError where it has no BatchNorm.
    """
    gaps: list[Tensor] = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        gaps.append(normal_gap(inputs[0], norm.running_mean, norm.running_var))  # type: ignore[arg-type]

    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        out: Out = net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return out, torch.stack(gaps).mean()


def normal_gap(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(mean of x, variance of x)), the mean over channels, x [B, C, ...].

    Zero if the batch has the statistics [C] that are given.
    """
    over = [d for d in range(x.ndim) if d != 1]
    v, m = torch.var_mean(wide(x), dim=over, correction=0)
    v, old = v + EPSILON, variance + EPSILON
    return 0.5 * ((v / old).log() + (old + (mean - m).square()) / v - 1.0).mean()


def roughness(x: Tensor) -> Tensor:
    """Return the mean square of the difference of images [B, C, H, W] and their blurred copies."""
    down, right = (blur(n, x.device) for n in x.shape[2:])
    x = wide(x)
    with torch.autocast(x.device.type, enabled=False):
        return F.mse_loss(x, down @ x @ right.T)


@cache
def blur(n: int, device: torch.device = CPU) -> Tensor:
    """The matrix [n, n] that blurs a line of n pixels: a Gaussian over 5 pixels, mirrored at the ends.

    Its weights are exp(-d^2/4), as in the official codes: a standard deviation of root 2, where the call says
    1. A matrix has a gradient that is reproducible on a GPU; reflecting padding has not. It is kept for each
    device, so that no step copies it.
    """
    weights = torch.tensor([math.exp(-(d**2) / 4) for d in range(-2, 3)])
    out = torch.zeros(n, n)
    period = max(1, 2 * (n - 1))
    for i in range(n):
        for d, weight in zip(range(-2, 3), weights / weights.sum(), strict=True):
            j = (i + d) % period
            out[i, min(j, period - j) if n > 1 else 0] += weight
    return out.to(device)
