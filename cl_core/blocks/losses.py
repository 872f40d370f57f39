"""The losses that several methods share: functions of logits [B, K], features [B, D] or maps [B, C, H, W].

They compute in float32 at least, whatever comes in, and are means over the batch unless they say otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.task import Task

TINY = 1e-6  # what is shorter has no direction: it is divided by this instead of its length


def kd(z: Tensor, z_old: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(z_old/T) || softmax(z/T)), [B, K] both, mean over the batch (Hinton et al., 2015).

    The factor T^2 decouples weight and temperature; its gradient is that of T^2 times the cross-entropy form.
    Zero with zero gradient where z equals z_old up to a constant a sample.
    """
    log_p = F.log_softmax(wide(z) / temperature, dim=1)
    log_q = F.log_softmax(wide(z_old) / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def grouped_kd(z: Tensor, z_old: Tensor, temperature: float, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """The sum over groups of classes [start, end) of `kd` with a softmax of their own (LwF's and EEIL's old
    heads).
    """
    return torch.stack([kd(z[:, a:b], z_old[:, a:b], temperature) for a, b in groups]).sum()


def cross_entropy_kd(z: Tensor, z_old: Tensor, temperature: float) -> Tensor:
    """-sum_c softmax(z_old/T)_c log softmax(z/T)_c, [B, K] both, mean over the batch (LwF, eq. 2-4; no T^2).

    Its gradient is that of `kd` over T^2; its value at equality is the teacher's entropy.
    """
    target = F.softmax(wide(z_old) / temperature, dim=1)
    return F.cross_entropy(wide(z) / temperature, target)


def logit_l2(z: Tensor, z_old: Tensor) -> Tensor:
    """(z - z_old)^2, [B, K] both, mean over batch and classes (DER, Buzzega et al., NeurIPS 2020)."""
    return F.mse_loss(wide(z), wide(z_old))


def logit_l1(z: Tensor, z_old: Tensor) -> Tensor:
    """|z - z_old|, [B, K] both, mean over batch and classes (R-DFCIL, Gao et al., ECCV 2022).

    Its gradient has the same size however far the logits are apart.
    """
    return F.l1_loss(wide(z), wide(z_old))


def feature_l2(f: Tensor, f_old: Tensor) -> Tensor:
    """(f - f_old)^2, [B, D] both, mean over batch and dimensions; blind to a common rotation."""
    return F.mse_loss(wide(f), wide(f_old))


def feature_distance(f: Tensor, f_old: Tensor) -> Tensor:
    """||F - F_old||_F: the unsquared norm of the whole batch difference, [B, D] both (PASS, IL2A, PRAKA).

    No mean: the value grows with the square root of the batch, and its gradient has norm 1 however far the
    features have moved. Zero gradient where they are equal.
    """
    # Not a root of a sum of squares, whose gradient at zero is NaN.
    return torch.linalg.vector_norm(wide(f) - wide(f_old))


def feature_cosine(f: Tensor, f_old: Tensor) -> Tensor:
    """1 - cos(f, f_old), [B, D] both, mean over the batch: LUCIR's less-forget term (Hou et al., CVPR 2019).

    Blind to the lengths of the features; a zero vector counts as orthogonal to everything.
    """
    return (1.0 - (unit(f) * unit(f_old)).sum(dim=1)).mean()


def pod(maps: tuple[Tensor, ...], maps_old: tuple[Tensor, ...]) -> Tensor:
    """POD-spatial: the distance of the pooled squares of every map (PODNet, Douillard et al., ECCV 2020).

    The squares [B, C, H, W] are summed over the width and over the height, both vectors are put together and
    normalised once; unsquared norm of the difference, mean over batch and maps. Blind to the scale of a map.
    The official net gives its maps before the ReLU, ours as they are.
    """
    return torch.stack(
        [_mean_distance(_pooled(a), _pooled(b)) for a, b in zip(maps, maps_old, strict=True)]
    ).mean()


def attention(maps: tuple[Tensor, ...], maps_old: tuple[Tensor, ...]) -> Tensor:
    """||Q/|Q| - Q_old/|Q_old|||^2 with Q = sum_c A_c^2 (AT, Zagoruyko & Komodakis, ICLR 2017).

    Maps A [B, C, H, W]; sum over positions, mean over batch and maps. Blind to the scale of a map and to the
    order of its channels.
    """
    pairs = [(_attended(a), _attended(b)) for a, b in zip(maps, maps_old, strict=True)]
    return torch.stack([(q - q_old).square().sum(dim=1).mean() for q, q_old in pairs]).mean()


def relation_distance(f: Tensor, f_old: Tensor) -> Tensor:
    """RKD-D: Huber of the distances between samples over their mean, [B, D] both (Park et al., CVPR 2019).

    Means over the B(B-1) ordered pairs; zero for one sample. Blind to translation, rotation and scale. The
    mean distance keeps its gradient.
    """
    pairs = max(1, len(f) * (len(f) - 1))
    d, d_old = (torch.linalg.vector_norm(_differences(x), dim=2) for x in (f, f_old))
    d, d_old = (x / (x.sum() / pairs).clamp_min(TINY) for x in (d, d_old))
    return F.smooth_l1_loss(d, d_old, reduction="sum") / pairs


def relation_angle(f: Tensor, f_old: Tensor) -> Tensor:
    """RKD-A: Huber of the cosines of the angles of three samples, [B, D] both (Park et al., CVPR 2019).

    Mean over the B(B-1)(B-2) ordered triplets of different samples; zero for fewer than three. Blind to
    translation, rotation and scale. Takes B^3 numbers: 128 samples 8 MB, 512 half a GB.
    """
    triplets = max(1, len(f) * (len(f) - 1) * (len(f) - 2))
    e, e_old = (unit(_differences(x)) for x in (f, f_old))  # [B, B, D]; zero between a sample and itself
    with torch.autocast(f.device.type, enabled=False):
        cosines, cosines_old = e @ e.mT, e_old @ e_old.mT  # [B, B, B]
    return F.smooth_l1_loss(cosines, cosines_old, reduction="sum") / triplets


def relation_prototype(f: Tensor, p: Tensor, f_old: Tensor, p_old: Tensor, temperature: float) -> Tensor:
    """Return the KL of each prototype's softmax over the batch, teacher to student, mean over prototypes.

    f, f_old [B, D] and p, p_old [K, D]: softmax over the B samples of cos(p_c, f_i)/T, teacher's against
    student's (PRD, Asadi et al., ICML 2023; the official code has the softmax over the prototypes instead).
    Zero for one sample. Blind to the lengths of features and prototypes.
    """
    with torch.autocast(f.device.type, enabled=False):
        z, z_old = unit(p) @ unit(f).mT, unit(p_old) @ unit(f_old).mT  # [K, B]
    return kd(z, z_old, temperature) / temperature**2


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor) -> Tensor:
    """Over its length in the last dimension; `TINY` and what is shorter keep a finite gradient."""
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
    """Cross-entropy of the new classes' softmax for samples of the new classes, z [B, seen].

    With one new class this softmax is constant and nothing would be learnt: then over all seen classes
    (`fallback_note` says so in the checkpoint).
    """
    if task.new == 1:
        return F.cross_entropy(z, y)
    return F.cross_entropy(z[:, task.old :], y - task.old)


def separated(z: Tensor, y: Tensor, task: Task) -> Tensor:
    """Separated softmax (SS-IL, Ahn et al., ICCV 2021, eq. 4): new samples over new classes, old over old.

    The mean runs over all samples. Falls back to all seen classes with one new class, as `new_only`. z [B,
    seen].
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
