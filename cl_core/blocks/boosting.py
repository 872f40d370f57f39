"""Boosting by a second backbone, and balanced targets (FOSTER, Wang et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.blocks.losses import wide
from cl_core.nets.network import Frozen, LinearHead
from cl_core.task import Out


class Boosted(nn.Module):
    """Two networks as one: their features side by side, and the sum of their logits.

    With a linear head each, that is one linear head on both features.
    """

    def __init__(self, old: nn.Module, new: nn.Module) -> None:
        super().__init__()
        self.old, self.new = old, new

    def forward(self, x: Tensor) -> Out:
        """[B, C, H, W] -> features [B, 2 D] and logits [B, seen]."""
        a, b = self.old(x), self.new(x)
        return Out(torch.cat([a.features, b.features], dim=1), a.logits + b.logits, ())


def with_head(net: Frozen, weight: Tensor) -> Frozen:
    """Return a copy of a network whose head has the rows `weight` [seen, D], and no bias."""
    out = Frozen(net.net)
    head = cast(LinearHead, out.net.head)
    head.weight.data[: len(weight)] = weight
    head.bias.data.zero_()
    head.seen = len(weight)
    return out


def effective_weights(counts: Sequence[int], beta: float) -> Tensor:
    """Return (1 - beta)/(1 - beta^n) for counts n of K classes, of sum K (Cui et al., CVPR 2019)."""
    weights = (1 - beta) / (1 - beta ** torch.tensor(counts, dtype=torch.float64))
    return (weights * len(counts) / weights.sum()).float()


def balanced_kd(z: Tensor, z_old: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return -sum_c q_c log softmax(z/T)_c, batch mean, q the normalised weights_c softmax(z_old/T)_c.

    z, z_old [B, K], weights [K] (FOSTER, balanced distillation; no T^2). With equal weights it is the
    cross-entropy form of the distillation.
    """
    target = F.softmax(wide(z_old) / temperature, dim=1) * weights
    return F.cross_entropy(wide(z) / temperature, target / target.sum(dim=1, keepdim=True))
