"""A network whose head has weights generated for each image, with the autoencoder that embeds images.

After PGMA's official code (Hu et al., ICLR 2019), for any backbone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.nets.image_gan import ImageGenerator, halving_convs
from cl_core.nets.network import LinearHead, Network, Shape
from cl_core.rng import global_stream, stream
from cl_core.task import Out


class ImageEncoder(nn.Module):
    """5x5 convolutions that halve the side to 4 at most, then a linear layer to the embedding."""

    def __init__(self, shape: Shape, latent: int, width: int) -> None:
        super().__init__()
        self.convs, last = halving_convs(shape, width)
        self.last = nn.Linear(last, latent)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> embeddings [B, L]."""
        for conv in self.convs:
            x = F.relu(conv(x))
        embedding: Tensor = self.last(x.flatten(1))
        return embedding


class AdaptiveHead(nn.Module):
    """z_c = <w_c, f[:D-A]> + <H_c(e), f[D-A:]> + b_c, with H_c(e) made from the embedding e of the image.

    H has two hidden layers of `width` and ends in tanh, as they do; A = `share` of the D features. Rows not
    yet opened, generated ones too, are zero and never read.
    """

    def __init__(self, dim: int, num_classes: int, share: float, latent: int, width: int) -> None:
        super().__init__()
        self.adapted = min(dim - 1, max(1, round(share * dim)))
        self.weight = nn.Parameter(torch.zeros(num_classes, dim - self.adapted))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.hidden = nn.Sequential(nn.Linear(latent, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.made_weight = nn.Parameter(torch.zeros(num_classes, self.adapted, width))
        self.made_bias = nn.Parameter(torch.zeros(num_classes, self.adapted))
        self.seen = 0

    def open(self, start: int, stop: int, g: torch.Generator) -> None:
        """Initialise and open the rows of classes [start, stop), each uniform in 1/sqrt of its inputs."""
        inputs = self.weight.shape[1] + self.adapted, self.made_weight.shape[2]
        with torch.no_grad():
            for n, of in zip(
                inputs, ((self.weight, self.bias), (self.made_weight, self.made_bias)), strict=True
            ):
                for rows in of:
                    drawn = torch.empty(rows[start:stop].shape).uniform_(-1, 1, generator=g)
                    rows[start:stop].copy_(drawn / math.sqrt(n))
        self.seen = stop

    def rows(self) -> list[nn.Parameter]:
        """The parameters with one row a class."""
        return [self.weight, self.bias, self.made_weight, self.made_bias]

    def generated(self, embedding: Tensor) -> Tensor:
        """Embeddings [B, L] -> the weights H(e) of seen classes, [B, seen, A] in [-1, 1]."""
        made = torch.einsum("bw,caw->bca", self.hidden(embedding), self.made_weight[: self.seen])
        return (made + self.made_bias[: self.seen]).tanh()

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """[B, D] and [B, L] -> [B, seen]."""
        shared, own = features.split([self.weight.shape[1], self.adapted], dim=1)
        z = F.linear(shared, self.weight[: self.seen], self.bias[: self.seen])
        return z + torch.einsum("bca,ba->bc", self.generated(embedding), own)


class AdaptedNetwork(Network):
    """The backbone of a plain network with an adaptive head, an encoder of images and a decoder.

    The decoder does not answer: it makes images of old classes, and counts as kept.
    """

    head: AdaptiveHead

    def __init__(self, plain: Network, share: float, latent: int, width: int, channels: int) -> None:
        classes, dim = cast(LinearHead, plain.head).weight.shape
        with global_stream(stream(0, "adapted")):  # `draw` gives the run's own numbers
            head = AdaptiveHead(dim, classes, share, latent, width)
            super().__init__(plain.backbone, head, shape=plain.shape)
            self.encoder = ImageEncoder(plain.shape, latent, channels)
            flat = [0.0] * plain.shape[0], [1.0] * plain.shape[0]
            self.decoder = ImageGenerator(plain.shape, 1, channels, *flat, noise=latent)

    def draw(self, g: torch.Generator) -> None:
        """Initialise all but backbone and rows of the head, from the seed of `g` and on the CPU."""
        with global_stream(g):
            for part in (self.head.hidden, self.encoder, self.decoder):
                fresh = copy.deepcopy(part).cpu()
                for module in fresh.modules():
                    if isinstance(module, nn.Linear | nn.Conv2d):
                        module.reset_parameters()
                part.load_state_dict(fresh.state_dict())

    def scale(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Let the decoder make images that are normalised by these."""
        device = self.head.weight.device
        self.decoder.mean, self.decoder.std = (
            torch.tensor(values, device=device)[:, None, None] for values in (mean, std)
        )

    def decode(self, embedding: Tensor) -> Tensor:
        """Embeddings [B, L] -> normalised images [B, C, H, W]."""
        images: Tensor = self.decoder(embedding, torch.zeros_like(embedding[:, 0], dtype=torch.int64))
        return images

    def answering_parameters(self) -> int:
        """As `Network.answering_parameters`, and of the encoder."""
        return super().answering_parameters() + sum(p.numel() for p in self.encoder.parameters())

    def kept_bytes(self) -> int:
        """Return the bytes of the decoder."""
        return sum(p.numel() * p.element_size() for p in self.decoder.parameters())

    def forward(self, x: Tensor) -> Out:
        """Images [B, C, H, W], as `Network.forward`; the backbone's features alone have no embedding."""
        if x.ndim == 2:
            raise ValueError("an adapted network takes images [B, C, H, W]: its head reads them too")
        out = self.backbone(x)
        features, maps = out if isinstance(out, tuple) else (out, ())
        features = features.float()
        return Out(features, self.head(features, self.encoder(x)).float(), tuple(maps))
