"""Parts of LUCIR for a cosine head: its scale, imprinted rows, and a margin between cosines."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.exemplars import features_of
from cl_core.images.view import View
from cl_core.nets.network import CosineHead, Head, Network
from cl_core.task import Task


def scaled(net: Network, eta: float) -> Network:
    """Set the scale of a cosine head to `eta`, and return the network."""
    torch.nn.init.constant_(cast(CosineHead, net.head).eta, eta)
    return net


@torch.no_grad()
def imprint(net: Network, data: View, task: Task) -> None:
    """Set the head's new rows to the mean direction of their class, with the mean length of the old rows.

    Uses all images of a class, without augmentation, in evaluation mode (Qi et al., CVPR 2018, as in LUCIR's
    official code).
    """
    rows = cast(Head, net.head).weight
    length = torch.linalg.vector_norm(rows[: task.old], dim=1).mean()
    for c in range(task.old, task.seen):
        mean = F.normalize(features_of(net, data, data.rows([c])), dim=1).mean(dim=0)
        rows[c] = length * F.normalize(mean, dim=0)


def margin_ranking(cosines: Tensor, y: Tensor, old: int, negatives: int, margin: float) -> Tensor:
    """Return the margin loss of old samples against their K nearest new classes (LUCIR, section 3.4).

    It is the mean of max(0, m - s_y + s_k) over samples and classes k, a scalar. `cosines` is [B, seen], `y`
    is [B]. It is zero without samples of old classes. K is at most the number of new classes.
    """
    own = cosines.gather(1, y[:, None])  # [B, 1]
    nearest = cosines[:, old:].topk(min(negatives, cosines.shape[1] - old), dim=1).values  # [B, K]
    each = F.relu(margin - own + nearest).mean(dim=1)
    is_old = y < old
    return (each * is_old).sum() / is_old.sum().clamp(min=1)
