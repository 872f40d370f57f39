"""Rules that answer beside the head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_mean(features: Tensor, means: Tensor) -> Tensor:
    """Scores of the nearest-mean rule (iCaRL, Alg. 1): minus the distance of the normalised features to each
    class mean.

    features [B, D], means [K, D] -> [B, K].
    """
    return -torch.cdist(F.normalize(features, dim=1), means, compute_mode="donot_use_mm_for_euclid_dist")


def bias_corrected(z: Tensor, pairs: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """alpha z + beta on each group of classes [start, end) (BiC, Wu et al., CVPR 2019, eq. 5).

    z [B, K], pairs [G, 2] -> [B, K]; the groups cover the K classes.
    """
    # Group by group: the gradient of an index or a repetition does not sum in a fixed order on a GPU.
    corrected = [z[:, a:b] * alpha + beta for (a, b), (alpha, beta) in zip(groups, pairs, strict=True)]
    return torch.cat(corrected, dim=1)
