"""Implicit semantic augmentation: a loss over all samples of a Gaussian class, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def covariance(features: Tensor) -> Tensor:
    """Return the unbiased covariance [D, D] of features [n, D], in float64, kept as float32; 0 for n = 1."""
    centred = features.double() - features.double().mean(dim=0)
    return (centred.T @ centred / max(1, len(features) - 1)).float()


def semantic_logits(
    mu: Tensor, sigma: Tensor, y: Tensor, weight: Tensor, bias: Tensor, ratio: float
) -> Tensor:
    """Return w_c mu + b_c + ratio/2 (w_c - w_y)^T Sigma (w_c - w_y), [B, n] (ISDA, Wang et al., 2019).

    mu [B, D] and sigma [B, D, D] of the classes y [B]; weight [n, D], bias [n]. Always in float32.
    """
    with torch.autocast(mu.device.type, enabled=False):
        apart = weight[None] - weight[y][:, None]  # [B, n, D]
        spread = (torch.bmm(apart, sigma) * apart).sum(dim=2)  # the diagonal alone, never [n, n]
        return F.linear(mu, weight, bias) + 0.5 * ratio * spread
