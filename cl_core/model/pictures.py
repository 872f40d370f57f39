"""Images as a user has them, arrays, files or what Pillow has opened, in batches of a model's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cl_core.errors import BadRequest, first_line
from cl_core.images.decoding import decode, pixels
from cl_core.images.pixels import Array
from cl_core.images.view import EVALUATION_BATCH

if TYPE_CHECKING:
    from PIL import Image

    Picture = str | Path | Array | Image.Image
    Pictures = Array | Sequence[Picture]


def batches(images: Pictures, shape: Sequence[int]) -> Iterator[Array]:
    """uint8 [B, H, W, C] of `shape` [C, H, W], in evaluation batches, in order. Raises BadRequest."""
    channels, height, width = shape
    if isinstance(images, str | Path):
        raise BadRequest(f"give a list of images, not one alone: [{str(images)!r}]")
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise BadRequest(
                f"images must be uint8 [B, H, W, C] or [B, H, W], not {images.dtype} {list(images.shape)}"
            )
        images = images[..., None] if images.ndim == 3 else images
    for start in range(0, len(images), EVALUATION_BATCH):
        part = images[start : start + EVALUATION_BATCH]
        if isinstance(part, np.ndarray) and part.shape[1:] == (height, width, channels):
            yield np.ascontiguousarray(part)
        else:
            yield np.stack([fitted(image, shape) for image in part])


class Unreadable(BadRequest):
    """One image cannot be read; others may be."""


def fitted(image: Picture, shape: Sequence[int]) -> Array:
    """One image as uint8 [H, W, C] of `shape` [C, H, W]. Raises BadRequest, Unreadable for a bad file."""
    from PIL import Image

    channels, height, width = shape
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.shape == (height, width, channels):
            return image
        image = _from_array(image)
    if height != width or channels not in (1, 3):
        raise BadRequest(
            f"this model takes images of {channels}x{height}x{width} as they are: give arrays of that shape"
        )
    try:
        if isinstance(image, str | Path):
            square, _ = decode(Path(image).expanduser().read_bytes(), height)
        else:
            square = pixels(image, height)
    except Exception as error:  # Pillow raises many kinds
        name = image if isinstance(image, str | Path) else type(image).__name__
        why = f"({first_line(error)}): repair it, or name another"
        raise Unreadable(f"cannot read the image {name} {why}") from error
    return square if channels == 3 else np.asarray(Image.fromarray(square).convert("L"))[..., None]


def _from_array(image: Array) -> Image.Image:
    from PIL import Image

    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if image.dtype != np.uint8 or 0 in image.shape or flat.shape[2:] not in ((), (3,), (4,)):
        raise BadRequest(
            f"an image must be uint8 [H, W] or [H, W, C] with 1, 3 or 4 channels, not {image.dtype} "
            f"{list(image.shape)}"
        )
    return Image.fromarray(flat)
