"""Class augmentation: mixtures of two classes are further classes (IL2A, Zhu et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_core.rng import Streams

ONE_CLASS = -100
"""The label of a mixture within one class, which F.cross_entropy passes over."""


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
    share = np.where(np.abs(drawn - 0.5) > clip, 0.5, drawn).astype(np.float32)
    return Mix(torch.arange(n).repeat(times), torch.cat(partners), torch.from_numpy(share))


def mixtures(drawn: int, k: int) -> int:
    """Return how many of the drawn pairs of images enter a batch of k classes.

    As many are of two classes where the images of each class are equally many. The number does not depend on
    the labels, so batches of one size have one shape.
    """
    return drawn * (k - 1) // k


def class_mix(x: Tensor, y: Tensor, mix: Mix, start: int, k: int) -> tuple[Tensor, Tensor]:
    """Return mixed images [M', C, H, W] and their labels [M'], M' = mixtures(M, k).

    x [B, C, H, W] and y [B] are of the k classes from `start` on. Pairs have the labels after those of the
    classes. Images of one class are no pair: pairs of two classes come first, in the order in which they were
    drawn. Where there are fewer than M', the rest are labelled ONE_CLASS.
    """
    a, b, share = (t.to(x.device, non_blocking=True) for t in (mix.first, mix.second, mix.share))
    taken = (y[a] == y[b]).byte().argsort(stable=True)[: mixtures(len(a), k)]
    a, b, share = a[taken], b[taken], share[taken, None, None, None]
    of_a, of_b = y[a], y[b]
    pair = start + k + pair_index(of_a - start, of_b - start, k)
    labels = torch.where(of_a == of_b, ONE_CLASS, pair)
    # index_select takes a third of the time of an index.
    return share * x.index_select(0, a) + (1.0 - share) * x.index_select(0, b), labels
