"""Weighted coresets: few samples whose weighted gradient is near that of all (Tiwari et al., GCR, CVPR 2022).

A gradient of the last layer is the outer product of two vectors: the gradient of the logits, and the features
with a 1 for the bias. So inner products of gradients are products of two small inner products, and no
gradient of the whole layer is ever stored.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def coreset(
    errors: Tensor, features: Tensor, weights: Tensor, k: int, ridge: float, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return k different indices, on the CPU, and their weights [k], like those of `matching_pursuit`.

    Places that it leaves free are filled with random samples of weight 1, as in the official code.
    """
    picked, found = matching_pursuit(errors, features, weights, k, ridge)
    free = torch.ones(len(errors), dtype=torch.bool)
    free[picked] = False
    others = free.nonzero()[:, 0]
    drawn = others[torch.randperm(len(others), generator=g)[: k - len(picked)]]
    found = torch.cat([found, torch.ones(len(drawn), dtype=torch.float64)])
    return torch.cat([picked, drawn]), found.to(weights)


def matching_pursuit(
    errors: Tensor, features: Tensor, weights: Tensor, k: int, ridge: float
) -> tuple[Tensor, Tensor]:
    """Return at most k picked indices [m] and their weights [m] > 0, by orthogonal matching pursuit.

    errors [N, K] are gradients of a loss by the logits, features [N, D], weights [N] those of the samples.
    With g_i = errors_i x (features_i, 1), it lowers ||sum_i weights_i g_i - sum_j w_j g_j||^2 + r ||w||^2
    over w >= 0 (GCR's GradApprox objective). r is `ridge` times the mean of ||g_i||^2, so that w does not
    depend on the scale of the gradients. Each step picks the sample along which the objective falls fastest,
    and solves for all weights (Lawson & Hanson, 1974, stopped at k samples). It ends early if no sample
    lowers the objective.
    """
    errors = errors.double().cpu()
    features = F.pad(features.double().cpu(), (0, 1), value=1.0)
    weights = weights.double().cpu()
    target = features.T @ (weights[:, None] * errors)  # [D + 1, K]: the sum of all gradients
    toward = (features @ target * errors).sum(dim=1)  # [N]: <g_i, target>
    lengths = errors.square().sum(dim=1) * features.square().sum(dim=1)
    r = ridge * lengths.mean()
    enough = 1e-9 * toward.abs().max()
    picked = torch.empty(0, dtype=torch.int64)
    found = torch.empty(0, dtype=torch.float64)
    for _ in range(10 * k):  # a sample may be left out again, so k steps need not be enough
        if len(picked) == min(k, len(errors)):
            break
        explained = (errors @ errors[picked].T) * (features @ features[picked].T) @ found
        fall = toward - explained
        fall[picked] = -torch.inf
        best = int(fall.argmax())
        if fall[best] <= enough:
            break
        picked = torch.cat([picked, torch.tensor([best])])
        found = torch.cat([found, torch.zeros(1, dtype=torch.float64)])
        picked, found = _solved(errors, features, toward, picked, found, r)
    return picked, found


def _solved(
    errors: Tensor, features: Tensor, toward: Tensor, picked: Tensor, found: Tensor, r: Tensor
) -> tuple[Tensor, Tensor]:
    # The best weights of the picked samples; a sample whose weight would be negative is left out again.
    while True:
        gram = (errors[picked] @ errors[picked].T) * (features[picked] @ features[picked].T)
        best = torch.linalg.solve(gram + r * torch.eye(len(picked), dtype=gram.dtype), toward[picked])
        if (best > 0).all():
            return picked, best
        # As far toward the solution as no weight falls below zero.
        lost = best <= 0
        share = torch.where(lost, found / (found - best).clamp_min(1e-300), torch.inf).min()
        found = found + share * (best - found)
        stays = ~(lost & (found <= 1e-12 * found.max()))
        picked, found = picked[stays], found[stays]
