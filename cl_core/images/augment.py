"""Batched augmentation and normalisation on the device where the images lie.

The random numbers of a whole epoch are drawn at once on the CPU from a named stream, so they do not depend on
the device or on how the epoch is cut into steps.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.images.dataset import Augment
from cl_core.rng import Streams


class Draws(NamedTuple):
    """The random numbers of n images; None where they are not augmented so."""

    top: Tensor | None = None  # [n] int64 in 0..2 crop, the crop's offset
    left: Tensor | None = None  # [n]
    flip: Tensor | None = None  # [n] bool
    factor: Tensor | None = None  # [n] float32 in 1 - brightness..1 + brightness
    contrast: Tensor | None = None  # [n] float32 in 1 - contrast..1 + contrast
    contrast_first: Tensor | None = None  # [n] bool, the order where both are drawn
    operations: Tensor | None = None  # [n, 2] of AutoAugment, on the CPU
    hole: Tensor | None = None  # [n, 2] float32 in [0, 1), the middle of the hole as shares of the sides

    def at(self, start: int, stop: int) -> Draws:
        """The draws of images [start, stop)."""
        return Draws(*(None if t is None else t[start:stop] for t in self))


def draw(augment: Augment, n: int, g: Streams, purpose: tuple[str | int, ...], device: torch.device) -> Draws:
    """The draws of `n` images for `purpose`."""
    top = left = flip = contrast_first = operations = hole = None
    if augment.crop:
        offsets = torch.randint(0, 2 * augment.crop + 1, (2, n), generator=g(*purpose, "crop")).to(device)
        top, left = offsets[0], offsets[1]
    if augment.flip:
        flip = (torch.rand(n, generator=g(*purpose, "flip")) < 0.5).to(device)
    factor = _factors(augment.brightness, n, g(*purpose, "brightness"), device)
    contrast = _factors(augment.contrast, n, g(*purpose, "contrast"), device)
    if factor is not None and contrast is not None:
        contrast_first = (torch.rand(n, generator=g(*purpose, "jitter")) < 0.5).to(device)
    if augment.auto_augment is not None:
        operations = _auto_augment().draw_operations(augment.auto_augment, n, g(*purpose, "operations"))
    if augment.cutout:
        # Shares of the sides: the size of the images is not known here.
        hole = torch.rand(n, 2, generator=g(*purpose, "cutout")).to(device)
    return Draws(top, left, flip, factor, contrast, contrast_first, operations, hole)


def _factors(spread: float, n: int, g: torch.Generator, device: torch.device) -> Tensor | None:
    """Return n factors in 1 - spread..1 + spread, or None where the spread is 0."""
    return (1 + spread * (2 * torch.rand(n, generator=g) - 1)).to(device) if spread else None


def apply(images: Tensor, augment: Augment, draws: Draws) -> Tensor:
    """Change pixels uint8 [B, H, W, C] as drawn: crop, flip, brightness and contrast, AutoAugment, cutout."""
    if draws.top is not None or draws.flip is not None:
        images = _moved(images, augment, draws)
    if draws.factor is not None or draws.contrast is not None:
        images = _jittered(images, draws)
    if augment.auto_augment is not None and draws.operations is not None:
        images = _auto_augment().operated(images, augment.auto_augment, draws.operations)
    return images if draws.hole is None else _cut_out(images, augment.cutout, draws.hole)


def _auto_augment() -> ModuleType:
    from cl_core.images import auto_augment  # with torchvision

    return auto_augment


def _jittered(images: Tensor, draws: Draws) -> Tensor:
    if draws.contrast is None:
        return _away(images, torch.zeros_like(draws.factor), draws.factor)  # type: ignore[arg-type]
    if draws.factor is None:
        return _away(images, _grey(images), draws.contrast)
    assert draws.contrast_first is not None
    for contrast in (draws.contrast_first, ~draws.contrast_first):
        base = torch.where(contrast, _grey(images), 0.0)
        images = _away(images, base, torch.where(contrast, draws.contrast, draws.factor))
    return images


def _away(images: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from a grey value [B] of their image, by a factor [B]."""
    base, factor = base[:, None, None, None], factor[:, None, None, None]
    # Cut off, not rounded, as Pillow does it for torchvision's ColorJitter.
    return (base + factor * (images - base)).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Return the mean grey value [B] of images with 1 or 3 channels, a whole number, as Pillow has it."""
    x = images.int()
    if x.shape[3] == 3:
        red, green, blue = x.unbind(dim=3)
        x = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    x = x.flatten(1)
    return ((2 * x.sum(dim=1) + x.shape[1]) // (2 * x.shape[1])).float()


def _cut_out(images: Tensor, side: int, hole: Tensor) -> Tensor:
    """Blacken a square of `side` pixels around a pixel of each image, as far as it lies inside."""
    near = []
    for axis, n in enumerate(images.shape[1:3]):
        at = torch.arange(n, device=images.device)[None]  # [1, n]
        middle = (hole[:, axis : axis + 1] * n).long()  # [B, 1]
        first = middle - side // 2
        near.append((at >= first) & (at < first + side))
    inside = near[0][:, :, None] & near[1][:, None, :]
    return images * ~inside[..., None]


def _moved(images: Tensor, augment: Augment, draws: Draws) -> Tensor:
    b, height, width, channels = images.shape
    device = images.device
    rows = torch.arange(height, device=device)[None]  # [b or 1, height]
    cols = torch.arange(width, device=device)[None]
    if draws.flip is not None:
        cols = torch.where(draws.flip[:, None], width - 1 - cols, cols)
    if draws.top is not None and draws.left is not None:
        p = augment.crop
        images = F.pad(images, (0, 0, p, p, p, p))
        rows, cols = rows + draws.top[:, None], cols + draws.left[:, None]
    # One gather of whole pixels: four times as fast as an index by three tensors.
    high, wide = images.shape[1:3]
    first = torch.arange(0, b * high * wide, high * wide, device=device)[:, None]
    places = (first + rows * wide)[:, :, None] + cols[:, None, :]  # [b, height, width]
    return images.reshape(-1, channels).index_select(0, places.flatten()).view(b, height, width, channels)


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x scale + shift by channel: uint8 [B, H, W, C] -> float32 [B, C, H, W], channels last."""
    return (images.float() * scale + shift).permute(0, 3, 1, 2)
