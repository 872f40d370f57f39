"""The losses that several methods share: plain functions of logits [B, K], means over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.task import Task


def kd(z: Tensor, z_old: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(z_old/T) || softmax(z/T)), [B, K] both, mean over the batch (Hinton et al., 2015).

    The factor T^2 decouples weight and temperature; its gradient is that of T^2 times the cross-entropy form.
    Zero with zero gradient where z equals z_old up to a constant a sample.
    """
    log_p = F.log_softmax(z.float() / temperature, dim=1)
    log_q = F.log_softmax(z_old.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def grouped_kd(z: Tensor, z_old: Tensor, temperature: float, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """The sum over groups of classes [start, end) of `kd` with a softmax of their own (LwF's and EEIL's old
    heads).
    """
    return torch.stack([kd(z[:, a:b], z_old[:, a:b], temperature) for a, b in groups]).sum()


def new_only(z: Tensor, y: Tensor, task: Task) -> Tensor:
    """Cross-entropy of the new classes' softmax for samples of the new classes, z [B, seen].

    With one new class this softmax is constant and nothing would be learnt: then over all seen classes
    (`fallback_note` says so in the stage).
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
    """What a stage records where `new_only` or `separated` had to fall back."""
    return "one new class: cross-entropy over all seen classes" if task.index and task.new == 1 else None
