"""Contact sheets: images in a grid, a row a class, as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cl_core.images.pixels import Array

GAP, ROOM, LEAST = 2, 90, 48  # pixels: between images, for a name, and the least side of an image


def write_contact_sheet(path: Path, rows: Mapping[str, Array]) -> None:
    """Write images uint8 [n, H, W, C] by the name of their class; C is 1 or 3, small ones are enlarged."""
    height, width, channels = next(iter(rows.values())).shape[1:]
    times = max(1, -(-LEAST // min(height, width)))
    step_y, step_x = height * times + GAP, width * times + GAP
    columns = max(len(images) for images in rows.values())
    sheet = Image.new("RGB", (ROOM + columns * step_x, len(rows) * step_y), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        pen.text((4, row * step_y + step_y // 2 - 6), name[:14], fill="black")
        for column, image in enumerate(images):
            pixels = np.repeat(image, 3, axis=2) if channels == 1 else image
            tile = Image.fromarray(pixels).resize((width * times, height * times), Image.Resampling.NEAREST)
            sheet.paste(tile, (ROOM + column * step_x, row * step_y))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
