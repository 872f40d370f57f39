"""A generator of images from noise, as the official codes of ABD and R-DFCIL have it."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.network import Shape
from cl_core.rng import global_stream

LATENT = 1000  # numbers of the noise behind an image, as in the official codes
SPREAD = 0.8  # added to the variances of the inner norms, as in the official codes


class Generator(nn.Module):
    """A linear layer, doublings of the side with a 3x3 convolution each, and a last one to the channels.

    Two doublings up to 32 pixels, three up to 64, five above. The last norm gives each channel mean 0 and
    variance 1 over a training batch, as normalised images have.
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, *side = shape
        doublings = 2 if max(side) <= 32 else 3 if max(side) <= 64 else 5
        self.width = width
        self.sides = [tuple(math.ceil(n / 2**k) for n in side) for k in reversed(range(doublings + 1))]
        self.first = nn.Linear(LATENT, width * math.prod(self.sides[0]))
        self.norm = nn.BatchNorm2d(width)
        widths = [width] * doublings + [max(1, width // 2)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b, eps=SPREAD) for b in widths[1:])
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.scale = nn.BatchNorm2d(channels, affine=False)

    def forward(self, noise: Tensor) -> Tensor:
        """Noise [B, LATENT] -> images [B, C, H, W], normalised."""
        x = self.norm(self.first(noise).unflatten(1, (self.width, *self.sides[0])))
        for side, conv, norm in zip(self.sides[1:], self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(F.interpolate(x, size=side))), 0.2)
        images: Tensor = self.scale(self.last(x).tanh())
        return images


def build_generator(shape: Shape, width: int, g: torch.Generator) -> Generator:
    """A fresh generator of images [C, H, W] on the CPU, drawn from the seed of `g`."""
    with global_stream(g):
        return Generator(shape, width)
