"""Memory recovery: images of old classes, found by asking the previous network alone.

Each image starts as noise and is changed until the network's softened answer is a target drawn from a
Dirichlet distribution. The targets of a class lean towards classes with similar rows in the head. These are
the data impressions of Nayak et al., Zero-Shot Knowledge Distillation (ZSKD), ICML 2019.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.losses import wide

CONCENTRATIONS = (1.0, 0.1)  # beta of a class's even and odd images (ZSKD)
LEAST = 1e-3  # of a Dirichlet parameter: the least similar class would have zero


class Recovered(nn.Module):
    """Images [N, C, H, W] that recovery changes, and the targets [N, K] of their answers."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images.clone())
        self.targets: Tensor
        self.register_buffer("targets", targets)


def similarity(rows: Tensor) -> Tensor:
    """Return the cosines of head rows [K, D], each row of the result scaled to [0, 1]: [K, K].

    The official code scales the columns in place of the rows, so that a class leans towards those that are
    like few others.
    """
    rows = F.normalize(rows.double(), dim=1)
    cosines = rows @ rows.T
    low, high = cosines.amin(dim=1, keepdim=True), cosines.amax(dim=1, keepdim=True)
    return (cosines - low) / (high - low).clamp_min(1e-12)


def soft_targets(rows: Tensor, per_class: int, g: torch.Generator) -> Tensor:
    """Draw `per_class` targets for each class from its similarities, class by class: [K * per_class, K].

    Rows sum to 1. Even ones of a class have concentration 1, odd ones 0.1. A single class has the target 1.
    """
    leaning = similarity(rows).clamp_min(LEAST).cpu().numpy()
    leaning[np.diag_indices(len(leaning))] = 1.0
    draws = np.random.default_rng(g.initial_seed())
    drawn = [
        draws.dirichlet(CONCENTRATIONS[i % 2] * np.maximum(row, LEAST))
        for row in leaning
        for i in range(per_class)
    ]
    return torch.from_numpy(np.stack(drawn)).float()


def recovery(z: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of softmax(z/T), [n, K], with the target [n, K], the mean over images."""
    return F.cross_entropy(wide(z) / temperature, target)


def some(images: Tensor, labels: Tensor, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n of the images [N, C, H, W] at most, without repetition, and their labels [N]."""
    chosen = torch.randperm(len(labels), generator=g)[:n].to(labels.device)
    return images[chosen], labels[chosen]
