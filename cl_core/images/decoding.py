"""Image files as pixels, the same for training and for predictions.

A file is an image if its name has one of `SUFFIXES`: the endings of the formats in `FORMATS`, which Pillow
decodes by itself. Of files with several pictures the first is taken. A picture is turned as its EXIF says,
transparency is laid on white, grey and palettes become RGB, and 16 bits a channel are brought to 8. The
shorter side is resized to `size` (antialiased bilinear) and the centre cropped.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cl_core.images.pixels import Array, centre_square

if TYPE_CHECKING:
    from PIL import Image

FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "BLP": (".blp",),
    "CUR": (".cur",),
    "DCX": (".dcx",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "FITS": (".fit", ".fits"),
    "FLI": (".fli", ".flc"),
    "FTEX": (".ftc", ".ftu"),
    "ICNS": (".icns",),
    "ICO": (".ico",),
    "MSP": (".msp",),
    "PCX": (".pcx",),
    "PIXAR": (".pxr",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".bw", ".rgb", ".rgba", ".sgi"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
}
"""Pillow's formats and their endings, the common ones first: Pillow tries them in this order."""

LEFT_OUT: dict[str, str] = {
    "EPS": "Pillow runs Ghostscript on it",
    "WMF": "Pillow decodes it on Windows alone",
    "BUFR": "Pillow recognises it and has no decoder",
    "GRIB": "Pillow recognises it and has no decoder",
    "HDF5": "Pillow recognises it and has no decoder",
    "MPEG": "Pillow recognises it and has no decoder",
    "GBR": "a brush; the ending of circuit drawings as well",
    "IM": "Pillow is about to drop it",
    "IPTC": "a record of metadata",
    "PCD": "the ending of point clouds as well",
}
"""Formats that Pillow opens and that are no images here, and why."""

SUFFIXES = tuple(suffix for endings in FORMATS.values() for suffix in endings)
DECODER: dict[str, str | int] = {"decoder": "centre-square", "version": 2}
"""Names what `decode` does in cache keys; a change of its pixels needs another version."""

_DARK = 16  # of 256: where all of an image is below, 16 bits have been used for smaller numbers


def decode(raw: bytes, size: int) -> tuple[Array, tuple[int, int]]:
    """The image in `raw` as [size, size, 3] uint8, and its own width and height. Raises whatever Pillow
    raises, and ValueError on pixels without a known range."""
    from PIL import Image, UnidentifiedImageError

    if not raw:
        raise ValueError("it is empty")
    try:
        opened = Image.open(io.BytesIO(raw), formats=_known_formats())
    except UnidentifiedImageError:
        raise ValueError("unknown format") from None
    with opened as image:
        own = image.size
        # A large JPEG is read at a fraction of its size that is still at least twice the one wanted.
        image.draft(None, (2 * size, 2 * size))
        return pixels(image, size), own


def pixels(image: Image.Image, size: int) -> Array:
    """An image that Pillow has opened as [size, size, 3] uint8. Raises as `decode` does."""
    from PIL import ImageOps

    coding, kind = _coding(image), image.format
    return np.asarray(centre_square(_as_rgb(ImageOps.exif_transpose(image), coding, kind), size))


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _coding(image: Image.Image) -> str:
    """Pillow's name for how the pixels lie in the file, such as "RGB;16B"; empty where there is none."""
    tiles = getattr(image, "tile", None)
    options = tiles[0][3] if tiles else ""
    first = options[0] if isinstance(options, tuple) and options else options
    return first if isinstance(first, str) else ""


def _as_rgb(image: Image.Image, coding: str, kind: str | None) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # grey of more than 8 bits, which Pillow's own conversion clips
        if image.mode == "I" and kind not in ("PNG", "PPM"):  # of these two it means 16 bits
            raise ValueError("integers of 32 bits have no known range; store 8 or 16 bits")
        full = 4095 if coding == "I;12" else 65535
        wide = np.asarray(image).astype(np.int64)
        grey = (wide * 255 // full).astype(np.uint8)
        if wide.any():
            _check_range(int(grey.max()), f"up to {int(wide.max())} of {full}")
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; store 8 or 16 bits")
    if coding.endswith((";16B", ";16L", ";16N")):  # Pillow has kept the upper 8 of 16 bits a channel
        top = int(np.asarray(_colours(image)).max())
        _check_range(top, f"below {256 * (top + 1)} of 65535")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _colours(image: Image.Image) -> Image.Image:
    """The image as RGB, its transparency dropped rather than applied."""
    return image if image.mode == "RGB" else image.convert("RGBA").convert("RGB")


def _check_range(top: int, found: str) -> None:
    """Refuse 16 bits that hold numbers of 8 or 12, which would be black."""
    if top < _DARK:
        raise ValueError(
            f"its 16-bit pixels are {found}, which is black; scale them to the full range, or store 8 bits"
        )
