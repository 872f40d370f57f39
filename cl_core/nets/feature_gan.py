"""A conditional generator of features and its critic, as in GFR's official code (Liu et al., CVPRW 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.rng import global_stream

FEATURE_NOISE = 200  # numbers of the noise behind a feature, as in the official code


class FeatureGenerator(nn.Module):
    """Three layers from noise and class to a feature; it ends in a ReLU, as the features do."""

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(FEATURE_NOISE + classes, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, dim),
            nn.ReLU(),
        )

    def forward(self, noise: Tensor, y: Tensor) -> Tensor:
        """Noise [B, FEATURE_NOISE] and classes [B] -> features [B, D]."""
        made: Tensor = self.layers(torch.cat([noise, F.one_hot(y, self.classes)], dim=1))
        return made


class FeatureCritic(nn.Module):
    """Two layers and a score of the feature, to which a projection of the class is added."""

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(dim, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
        )
        self.score = nn.Linear(width, 1)
        self.projection = nn.Linear(classes, width, bias=False)

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """Features [B, D] and classes [B] -> scores [B], high for real ones."""
        hidden = self.layers(features)
        of_class = self.projection(F.one_hot(y, self.classes).to(hidden.dtype))
        return (of_class * hidden).sum(dim=1) + self.score(hidden)[:, 0]


def build_feature_gan(
    dim: int, classes: int, width: int, g: torch.Generator
) -> tuple[FeatureGenerator, FeatureCritic]:
    """A fresh generator and critic on the CPU, drawn from the seed of `g`: weights N(0, 0.02), no biases.

    The projection begins as linear layers do, as in the official code.
    """
    with global_stream(g):
        generator, critic = FeatureGenerator(dim, classes, width), FeatureCritic(dim, classes, width)
        for part in (*generator.layers, *critic.layers, critic.score):
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, 0.0, 0.02)
                nn.init.zeros_(part.bias)
    return generator, critic
