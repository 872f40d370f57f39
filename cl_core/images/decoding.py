"""Decode image files to pixels, in the same way for training and for predictions.

A file is an image if its name ends in one of `SUFFIXES`, the endings of the `FORMATS` that Pillow decodes
itself. Of several pictures in a file, the first is used. The picture is rotated by its EXIF data.
Transparency is replaced by white, grey and palettes become RGB, and 16 bits a channel become 8. The shorter
side is resized to `size` (antialiased, bilinear), and the centre is cropped.
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
"""Pillow's formats and their endings, in the order in which Pillow tries them: common ones first."""

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
"""Formats that Pillow opens but that do not count as images here, with the reason."""

SUFFIXES = tuple(suffix for endings in FORMATS.values() for suffix in endings)
DECODER: dict[str, str | int] = {"decoder": "centre-square", "version": 2}
"""The part of cache keys that identifies `decode`. A change of its pixels needs another version."""

_DARK = 16  # of 256; if all pixels are below, a 16-bit file holds numbers of 8 or 12 bits


def decode(raw: bytes, size: int) -> tuple[Array, tuple[int, int]]:
    """Return the image in `raw` as [size, size, 3] uint8, and its own width and height.

    Raises Pillow's errors, and ValueError for pixels without a known range.
    """
    from PIL import Image, UnidentifiedImageError

    if not raw:
        raise ValueError("it is empty")
    try:
        opened = Image.open(io.BytesIO(raw), formats=_known_formats())
    except UnidentifiedImageError:
        raise ValueError("unknown format") from None
    with opened as image:
        own = image.size
        # Read a large JPEG at a fraction of its size, but at least at twice the wanted one.
        image.draft(None, (2 * size, 2 * size))
        return pixels(image, size), own


def pixels(image: Image.Image, size: int) -> Array:
    """Return an image that Pillow has opened as [size, size, 3] uint8. Raises as `decode` does."""
    from PIL import ImageOps

    coding, kind = _coding(image), image.format
    return np.asarray(centre_square(_as_rgb(ImageOps.exif_transpose(image), coding, kind), size))


@cache
def _known_formats() -> tuple[str, ...]:
    """Return the `FORMATS` that the installed Pillow has."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _coding(image: Image.Image) -> str:
    """Return Pillow's name of the pixel layout in the file, such as "RGB;16B"; empty without one."""
    tiles = getattr(image, "tile", None)
    options = tiles[0][3] if tiles else ""
    first = options[0] if isinstance(options, tuple) and options else options
    return first if isinstance(first, str) else ""


def _as_rgb(image: Image.Image, coding: str, kind: str | None) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # grey of more than 8 bits, which Pillow would clip
        if image.mode == "I" and kind not in ("PNG", "PPM"):  # where "I" means 16 bits
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
    """Return the image as RGB, without its transparency."""
    return image if image.mode == "RGB" else image.convert("RGBA").convert("RGB")


def _check_range(top: int, found: str) -> None:
    """Raise ValueError for 16-bit pixels that hold numbers of 8 or 12 bits: they would be black."""
    if top < _DARK:
        raise ValueError(
            f"its 16-bit pixels are {found}, which is black; scale them to the full range, or store 8 bits"
        )
