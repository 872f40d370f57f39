"""Rotations of square images as further classes. Row 4i + r is image i turned r times.

The label of such a row is 4y + r, so class c has the outputs 4c to 4c+3. `[::4]` takes the unrotated images,
or their outputs. This is the label augmentation of PASS (Zhu et al., CVPR 2021) and PRAKA (Shi & Ye, ICCV
2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_core.errors import BadRequest


def check_square(shape: tuple[int, int, int], method: str) -> None:
    """Raise BadRequest unless images [C, H, W] can be turned by 90 degrees."""
    _, height, width = shape
    if height != width:
        raise BadRequest(
            f"{method} turns images by 90 degrees, so they must be square: crop the {height}x{width} ones"
        )


def rotated(x: Tensor, times: int = 4) -> Tensor:
    """Return each image [B, C, H, H] in its rotations by 0, 90, ... degrees: [times B, C, H, H]."""
    if times == 1:
        return x
    turned = torch.stack([torch.rot90(x, r, (2, 3)) for r in range(times)], dim=1)
    return turned.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def rotation_labels(y: Tensor, times: int = 4) -> Tensor:
    """Return the labels `times` y + r of the rows of `rotated`, [B] -> [times B]."""
    return (times * y[:, None] + torch.arange(times, device=y.device)).flatten()


def interleaved(z: Tensor, rest: Tensor) -> Tensor:
    """Join logits of unrotated classes [B, n] and of their other rotations [B, (k-1) n] to [B, k n].

    Class c has the columns kc to kc+k-1.
    """
    return torch.cat([z[:, :, None], rest.view(*z.shape, -1)], dim=2).flatten(1)


def matched(z: Tensor) -> Tensor:
    """Return the mean of an image's four views, each by its own outputs: [4B, 4n] -> [B, n].

    a_c = 1/4 sum_r z(image turned r times)[4c + r] (PRAKA, Shi & Ye, ICCV 2023).
    """
    b, n = len(z) // 4, z.shape[1] // 4
    return z.view(b, 4, n, 4).diagonal(dim1=1, dim2=3).mean(dim=2)
