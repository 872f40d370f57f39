"""Pixels: uint8 arrays [N, H, W, C] from what people have, their size, their statistics and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cl_core.errors import BadRequest, first_line

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]
_CHUNK = 1024  # images at a time, wherever all pixels are walked through


def as_pixels(name: str, value: Any) -> Array:
    """[N, H, W, C] uint8 from any accepted layout and type."""
    try:
        x = np.asarray(value)
    except (ValueError, TypeError) as error:  # lists of several lengths, or a tensor of another device
        raise BadRequest(f"{name} must be one array ({first_line(error)}): stack the images") from error
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[3] > 4 and x.shape[1] <= 4:
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or not 1 <= x.shape[3] <= 4 or 0 in x.shape:
        raise BadRequest(
            f"{name} must be [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 to 4 channels and no empty axis, "
            f"not {list(np.shape(value))}: reshape it"
        )
    if np.issubdtype(x.dtype, np.floating):
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):  # also when one of them is NaN
            remedy = "divide by 255" if low >= 0 and high <= 255 else "scale it"
            raise BadRequest(
                f"{name} of type {x.dtype} must lie in [0, 1], and lies in [{low:g}, {high:g}]: "
                f"{remedy}, or give the pixels as uint8"
            )
        x = np.rint(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise BadRequest(
            f"{name} must be uint8 or float in [0, 1], not {x.dtype}: convert it, {_conversion(x)}"
        )
    return np.ascontiguousarray(x)


def _conversion(x: Array) -> str:
    """Return the words for a conversion of `x` to uint8 that keeps its content."""
    if x.dtype == np.bool_:
        return "as in x.astype('uint8') * 255"
    if not np.issubdtype(x.dtype, np.integer):
        return "as in x.astype('uint8')"
    low, high = int(x.min()), int(x.max())
    if low >= 0 and high <= 255:
        return "as in x.astype('uint8')"
    if low >= 0 and high <= 65535:
        return "if it has 16 bits, as in (x // 257).astype('uint8')"
    return f"from [{low}, {high}] to 0..255"


def centre_square(image: Image.Image, size: int) -> Image.Image:
    """Return the largest centred square of an image, resized to `size` x `size` pixels.

    Bilinear and antialiased, with what lies beside the square taken into account. Pillow resamples 8-bit
    images in whole numbers, so the result is the same on every machine.
    """
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return image if image.size == (size, size) else image.crop(box)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def resized(x: Array, size: int) -> Array:
    """`x` [N, H, W, C] uint8 as [N, size, size, C]: the centred square of each image."""
    from PIL import Image

    count, _, _, channels = x.shape
    out = np.empty((count, size, size, channels), np.uint8)
    for i in range(count):
        for c in range(channels):
            out[i, :, :, c] = np.asarray(centre_square(Image.fromarray(x[i, :, :, c]), size))
    return out


def chunks(x: Array) -> Iterator[Array]:
    """`x` in pieces small enough to hold copies of."""
    for start in range(0, len(x), _CHUNK):
        yield x[start : start + _CHUNK]


@dataclass
class Moments:
    """Exact sums over pixels by channel. The result does not depend on the parts that are added."""

    count: int = 0
    sums: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    squares: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, x: Array) -> None:
        """Take in `x` [n, H, W, C] uint8, n <= 1024 (so that a sum of squares fits 32 bits)."""
        flat, channels = x.reshape(len(x), -1), x.shape[-1]
        once = flat.sum(axis=0, dtype=np.uint32).reshape(-1, channels).sum(axis=0, dtype=np.int64)
        squared = flat.astype(np.uint16) ** 2  # 255 ** 2 fits 16 bits
        twice = squared.sum(axis=0, dtype=np.uint32).reshape(-1, channels).sum(axis=0, dtype=np.int64)
        self.merge(Moments(flat.size // channels, once, twice))

    def merge(self, other: Moments) -> None:
        """Take in other sums."""
        if not self.count:
            self.count, self.sums, self.squares = other.count, other.sums, other.squares
        elif other.count:
            self.count += other.count
            self.sums, self.squares = self.sums + other.sums, self.squares + other.squares

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and deviation of x / 255, rounded to 4 decimals; 1 for a channel without deviation."""
        mean = self.sums / (self.count * 255)
        std = np.sqrt(np.maximum(self.squares / (self.count * 255**2) - mean**2, 0))
        return (
            tuple(round(float(m), 4) for m in mean),
            tuple(round(float(s), 4) if s >= 5e-5 else 1.0 for s in std),
        )


def statistics(x: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of x / 255, a value a channel, of `x` [N, H, W, C] uint8."""
    moments = Moments()
    for part in chunks(x):
        moments.add(part)
    return moments.statistics()


def pixel_digest(parts: Iterator[Array]) -> str:
    """SHA-256 of uint8 arrays, one after the other."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(np.ascontiguousarray(part).data)
    return sha.hexdigest()


def combine_digests(splits: Sequence[tuple[Sequence[int], str, Array]], class_names: Sequence[str]) -> str:
    """Return the fingerprint from (shape, pixel digest, labels) of each split: training, then test."""
    text = json.dumps(
        {
            "class_names": list(class_names),
            "splits": [
                [[int(n) for n in shape], pixels, hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()]
                for shape, pixels, labels in splits
            ],
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()
