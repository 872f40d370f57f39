"""Losses that several methods share: functions of logits [B, K], features [B, D] or maps [B, C, H, W].

They compute in float32 or float64, and return the mean over the batch unless they say otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.task import Task

TINY = 1e-6  # the least length that a vector is divided by; a shorter one has no direction


def kd(z: Tensor, z_old: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(z_old/T) || softmax(z/T)), [B, K] both, batch mean (Hinton et al., 2015).

    The factor T^2 decouples weight and temperature. The gradient is that of T^2 times the cross-entropy form.
    Value and gradient are zero if z equals z_old up to a constant for each sample.
    """
    log_p = F.log_softmax(wide(z) / temperature, dim=1)
    log_q = F.log_softmax(wide(z_old) / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def grouped_kd(z: Tensor, z_old: Tensor, temperature: float, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """Return the sum of `kd` over groups of classes [start, end), as for the old heads of LwF and EEIL."""
    return torch.stack([kd(z[:, a:b], z_old[:, a:b], temperature) for a, b in groups]).sum()


def cross_entropy_kd(z: Tensor, z_old: Tensor, temperature: float) -> Tensor:
    """Return -sum_c softmax(z_old/T)_c log softmax(z/T)_c, [B, K] both, batch mean (LwF, eq. 2-4; no T^2).

    The gradient is that of `kd` divided by T^2. The value at equality is the teacher's entropy.
    """
    target = F.softmax(wide(z_old) / temperature, dim=1)
    return F.cross_entropy(wide(z) / temperature, target)


def logit_l2(z: Tensor, z_old: Tensor) -> Tensor:
    """Return (z - z_old)^2, [B, K] both, mean over batch and classes (DER, Buzzega et al., NeurIPS 2020)."""
    return F.mse_loss(wide(z), wide(z_old))


def logit_l1(z: Tensor, z_old: Tensor) -> Tensor:
    """Return |z - z_old|, [B, K] both, mean over batch and classes (R-DFCIL, Gao et al., ECCV 2022).

    The size of the gradient does not depend on the distance of the logits.
    """
    return F.l1_loss(wide(z), wide(z_old))


def feature_l2(f: Tensor, f_old: Tensor) -> Tensor:
    """Return (f - f_old)^2, [B, D] both, mean over batch and dimensions; invariant to a common rotation."""
    return F.mse_loss(wide(f), wide(f_old))


def feature_distance(f: Tensor, f_old: Tensor) -> Tensor:
    """Return ||F - F_old||_F, the norm of the difference of the batch, [B, D] both (PASS, IL2A, PRAKA).

    It is no mean: the value grows with the square root of the batch. The gradient has norm 1 at any distance,
    and is zero if the features are equal.
    """
    # The gradient of a root of a sum of squares would be NaN at zero.
    return torch.linalg.vector_norm(wide(f) - wide(f_old))


def feature_cosine(f: Tensor, f_old: Tensor) -> Tensor:
    """Return 1 - cos(f, f_old), [B, D] both, batch mean: LUCIR's less-forget term (Hou et al., CVPR 2019).

    Invariant to the lengths of the features. A zero vector counts as orthogonal to every other.
    """
    return (1.0 - (unit(f) * unit(f_old)).sum(dim=1)).mean()


def pod(maps: tuple[Tensor, ...], maps_old: tuple[Tensor, ...]) -> Tensor:
    """Return POD-spatial, the distance of pooled squares of maps (PODNet, Douillard et al., ECCV 2020).

    The squares [B, C, H, W] are summed over the width and over the height. Both vectors are concatenated and
    normalised. The loss is the norm of the difference, mean over batch and maps, invariant to a map's scale.
    The official net gives its maps before the ReLU. Here they are as the net returns them.
    """
    return torch.stack(
        [_mean_distance(_pooled(a), _pooled(b)) for a, b in zip(maps, maps_old, strict=True)]
    ).mean()


def attention(maps: tuple[Tensor, ...], maps_old: tuple[Tensor, ...]) -> Tensor:
    """Return ||Q/|Q| - Q_old/|Q_old|||^2 with Q = sum_c A_c^2 (AT, Zagoruyko & Komodakis, ICLR 2017).

    Maps A [B, C, H, W]; sum over positions, mean over batch and maps. Invariant to the scale of a map and to
    the order of its channels.
    """
    pairs = [(_attended(a), _attended(b)) for a, b in zip(maps, maps_old, strict=True)]
    return torch.stack([(q - q_old).square().sum(dim=1).mean() for q, q_old in pairs]).mean()


def relation_distance(f: Tensor, f_old: Tensor) -> Tensor:
    """Return RKD-D: Huber of sample distances over their mean, [B, D] both (Park et al., CVPR 2019).

    Means over the B(B-1) ordered pairs; zero for one sample. Invariant to translation, rotation and scale.
    The mean distance keeps its gradient.
    """
    pairs = max(1, len(f) * (len(f) - 1))
    d, d_old = (torch.linalg.vector_norm(_differences(x), dim=2) for x in (f, f_old))
    d, d_old = (x / (x.sum() / pairs).clamp_min(TINY) for x in (d, d_old))
    return F.smooth_l1_loss(d, d_old, reduction="sum") / pairs


def relation_angle(f: Tensor, f_old: Tensor) -> Tensor:
    """Return RKD-A: Huber of cosines of angles of three samples, [B, D] both (Park et al., CVPR 2019).

    Mean over the B(B-1)(B-2) ordered triplets of different samples; zero for fewer than three.
    Invariant to translation, rotation and scale. It stores B^3 numbers: 8 MB for 128 samples.
    """
    triplets = max(1, len(f) * (len(f) - 1) * (len(f) - 2))
    e, e_old = (unit(_differences(x)) for x in (f, f_old))  # [B, B, D]; zero between a sample and itself
    with torch.autocast(f.device.type, enabled=False):
        cosines, cosines_old = e @ e.mT, e_old @ e_old.mT  # [B, B, B]
    return F.smooth_l1_loss(cosines, cosines_old, reduction="sum") / triplets


def relation_angle_l1(f: Tensor, f_old: Tensor) -> Tensor:
    """Return the L1 distance of cosines of angles of three samples, [B, D] and [B, E] (R-DFCIL, ECCV 2022).

    Mean over all B^3 triplets, also those with a sample twice, whose cosine is 0 or 1 on both sides.
    Invariant to translation, rotation and scale. It stores B^3 numbers, as `relation_angle` does.
    """
    e, e_old = (unit(_differences(x)) for x in (f, f_old))
    with torch.autocast(f.device.type, enabled=False):
        return F.l1_loss(e @ e.mT, e_old @ e_old.mT)


def relation_prototype(f: Tensor, p: Tensor, f_old: Tensor, p_old: Tensor, temperature: float) -> Tensor:
    """Return the KL of each prototype's softmax over the batch, teacher to student, mean over prototypes.

    f, f_old [B, D] and p, p_old [K, D]: softmax over the B samples of cos(p_c, f_i)/T, teacher's against
    student's (PRD, Asadi et al., ICML 2023; the official code has the softmax over the prototypes instead).
    Zero for one sample. Invariant to the lengths of features and prototypes.
    """
    with torch.autocast(f.device.type, enabled=False):
        z, z_old = unit(p) @ unit(f).mT, unit(p_old) @ unit(f_old).mT  # [K, B]
    return kd(z, z_old, temperature) / temperature**2


def wide(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it has that type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor) -> Tensor:
    """Return `x` over its length in the last dimension; the gradient stays finite below `TINY`."""
    x = wide(x)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(TINY)


def _differences(f: Tensor) -> Tensor:
    # [B, D] -> [B, B, D]
    f = wide(f)
    return f[None] - f[:, None]


def _pooled(a: Tensor) -> Tensor:
    # [B, C, H, W] -> [B, C*(H + W)], of length 1
    squares = wide(a).square()
    return unit(torch.cat([squares.sum(3).flatten(1), squares.sum(2).flatten(1)], dim=1))


def _attended(a: Tensor) -> Tensor:
    # [B, C, H, W] -> [B, H*W], of length 1
    return unit(wide(a).square().sum(1).flatten(1))


def _mean_distance(v: Tensor, v_old: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v - v_old, dim=1).mean()


def new_only(z: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return the cross-entropy over the new classes, for samples of the new classes, z [B, seen].

    With one new class this softmax would be constant, so all seen classes are used (see `fallback_note`).
    """
    if task.new == 1:
        return F.cross_entropy(z, y)
    return F.cross_entropy(z[:, task.old :], y - task.old)


def separated(z: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return the separated softmax loss, z [B, seen] (SS-IL, Ahn et al., ICCV 2021, eq. 4).

    New samples are classified among new classes, old ones among old classes; the mean is over all samples.
    With one new class, all seen classes are used, as in `new_only`.
    """
    if task.new == 1 or not task.old:
        return F.cross_entropy(z, y)
    is_new = y >= task.old
    shifted = torch.where(is_new, y - task.old, 0)
    on_new = F.cross_entropy(z[:, task.old :], shifted, reduction="none")
    on_old = F.cross_entropy(z[:, : task.old], torch.where(is_new, 0, y), reduction="none")
    return torch.where(is_new, on_new, on_old).mean()


def fallback_note(task: Task) -> str | None:
    """Return the note of a task in which `new_only` or `separated` had to fall back, or None."""
    return "one new class: cross-entropy over all seen classes" if task.index and task.new == 1 else None
