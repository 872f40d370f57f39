"""Class augmentation: mixtures of two classes are further classes (IL2A, Zhu et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_core.rng import Streams


def pairs(k: int) -> int:
    """Return the number of unordered pairs of k classes."""
    return k * (k - 1) // 2


def pair_index(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Return the number of each unordered pair {a, b}, a != b, in 0..k(k-1)/2 - 1.

    Pairs are counted along the rows of the upper triangle. a, b and the result are integer tensors of one
    shape; a and b have values in 0..k-1.
    """
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return low * (2 * k - low - 1) // 2 + high - low - 1


@dataclass(frozen=True)
class Mix:
    """Pairs of images to mix in a batch, with the share of each; drawn on the CPU."""

    first: Tensor  # [M] int64, positions in the batch
    second: Tensor  # [M] int64
    share: Tensor  # [M] float32, of the first


def draw_mix(n: int, times: int, beta: float, clip: float, g: Streams) -> Mix:
    """Draw partners of n images by `times` permutations, M = times n, each with a share ~ Beta(beta, beta).

    A share that is further than `clip` from one half becomes one half, as in the official code.
    """
    partners = [torch.randperm(n, generator=g("mix", "partner", k)) for k in range(times)]
    # torch's Beta takes no generator.
    drawn = np.random.default_rng(g("mix", "share").initial_seed()).beta(beta, beta, times * n)
    share = torch.from_numpy(drawn)
    share = torch.where((share - 0.5).abs() > clip, 0.5, share).float()
    return Mix(torch.arange(n).repeat(times), torch.cat(partners), share)


def class_mix(x: Tensor, y: Tensor, mix: Mix, start: int, k: int) -> tuple[Tensor, Tensor]:
    """Return the mixed images [M', C, H, W] and the pair numbers [M'] for the k classes from `start` on.

    x [B, C, H, W], y [B]. Images of one class are not mixed with each other, so M' <= M depends on y.
    """
    a, b, share = (t.to(x.device, non_blocking=True) for t in (mix.first, mix.second, mix.share))
    different = (y[a] != y[b]).nonzero()[:, 0]
    a, b, share = a[different], b[different], share[different, None, None, None]
    return share * x[a] + (1.0 - share) * x[b], pair_index(y[a] - start, y[b] - start, k)
