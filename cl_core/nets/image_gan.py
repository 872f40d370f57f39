"""A conditional generator of images and its critic, after MeRGAN's official code (NeurIPS 2018)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.network import Shape
from cl_core.rng import global_stream

IMAGE_NOISE = 128  # numbers of the noise behind an image, as in the official code


class ConditionalNorm(nn.Module):
    """Mean 0 and deviation 1 over an image, then a scale and a shift for each channel of its class.

    The official code has conditional BatchNorm, with which an image depends on the others of its batch.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, affine=False)
        self.scale = nn.Parameter(torch.zeros(classes, channels))  # added to 1
        self.shift = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        """Maps [B, C, H, W] and classes as one-hot rows [B, K] -> maps."""
        scale, shift = ((member @ rows)[:, :, None, None] for rows in (self.scale, self.shift))
        scaled: Tensor = self.norm(x) * (1.0 + scale) + shift
        return scaled


class ImageGenerator(nn.Module):
    """A linear layer to a side of 4 at most, doublings with a 5x5 convolution each, and tanh.

    `mean` and `std` are those by which the images of the data set are normalised; `noise` is the number of
    inputs beside the class.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        noise: int = IMAGE_NOISE,
    ) -> None:
        super().__init__()
        channels, *side = shape
        doublings = max(1, math.ceil(math.log2(max(side) / 4)))
        self.classes = classes
        self.sides = [tuple(math.ceil(n / 2**k) for n in side) for k in reversed(range(doublings + 1))]
        widths = [width * 2**k for k in reversed(range(doublings))]
        self.first = nn.Linear(noise, widths[0] * math.prod(self.sides[0]))
        self.norms = nn.ModuleList(ConditionalNorm(w, classes) for w in widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 5, padding=2) for a, b in itertools.pairwise([*widths, channels])
        )
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def unscaled(self, noise: Tensor, y: Tensor) -> Tensor:
        """Noise [B, `noise`] and classes [B] -> images [B, C, H, W] in [-1, 1]."""
        member = F.one_hot(y, self.classes).to(noise.dtype)
        x = self.first(noise).unflatten(1, (-1, *self.sides[0]))
        for norm, conv, side in zip(self.norms, self.convs, self.sides[1:], strict=True):
            x = conv(F.interpolate(F.relu(norm(x, member)), size=side))
        return x.tanh()

    def forward(self, noise: Tensor, y: Tensor) -> Tensor:
        """Noise and classes, as `unscaled`, -> normalised images [B, C, H, W]."""
        images: Tensor = ((self.unscaled(noise, y) + 1.0) / 2.0 - self.mean) / self.std
        return images


def halving_convs(shape: Shape, width: int) -> tuple[nn.ModuleList, int]:
    """Return 5x5 convolutions that halve the side of images [C, H, W] to 4 at most, and the number of values.

    The first has `width` channels, each further one twice as many.
    """
    channels, *side = shape
    halvings = max(1, math.ceil(math.log2(max(side) / 4)))
    widths = [channels, *(width * 2**k for k in range(halvings))]
    last = widths[-1] * math.prod(math.ceil(n / 2**halvings) for n in side)
    convs = (nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in itertools.pairwise(widths))
    return nn.ModuleList(convs), last


class ImageCritic(nn.Module):
    """5x5 convolutions that halve the side to 4 at most, then a score and logits of the classes."""

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        self.convs, last = halving_convs(shape, width)
        self.score = nn.Linear(last, 1)
        self.logits = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] -> scores [B], high for real ones, and logits [B, K]."""
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        x = x.flatten(1)
        return self.score(x)[:, 0], self.logits(x)


def apart(generator: nn.Module, other: nn.Module, noise: Tensor, y: Tensor) -> Tensor:
    """Return half the squared distance of the images in [-1, 1] that two generators make, their sum."""
    new, old = (cast(ImageGenerator, module).unscaled(noise, y) for module in (generator, other))
    return 0.5 * (new - old).square().sum()


def images_of(
    generator: nn.Module, n: int, classes: int, of_noise: torch.Generator, of_classes: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return n images [n, C, H, W] of classes drawn from the first `classes` ones, and their classes [n]."""
    device = next(generator.parameters()).device
    noise = torch.randn(n, IMAGE_NOISE, generator=of_noise).to(device)
    y = torch.randint(0, classes, (n,), generator=of_classes).to(device)
    return generator(noise, y), y


def build_image_gan(
    shape: Shape,
    classes: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    g: torch.Generator,
) -> tuple[ImageGenerator, ImageCritic]:
    """A fresh generator and critic of images [C, H, W] on the CPU, drawn from the seed of `g`."""
    with global_stream(g):
        return ImageGenerator(shape, classes, width, mean, std), ImageCritic(shape, classes, width)
