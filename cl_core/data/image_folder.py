"""Images of one's own: `root/train/<class>/*` and, if there is one, `root/test/<class>/*`.

Anything that Pillow reads, of any size and mode: turned as its EXIF says, transparency laid on white, 16 bits
a channel brought to 8, grey and palettes to RGB, the shorter side resized to `size` (antialiased bilinear),
the centre cropped. Classes are sorted by name, images by path. Folders within a class folder count as part of
it unless they are links; names that begin with a dot and files without an image's suffix are passed over.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cl_core.data.cache import Folder, Item, decoded
from cl_core.dataset import DATASETS, Array, Augment, Data, DataSpec, centre_square, evenly, keep_classes
from cl_core.errors import BadRequest, unknown

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
DECODER: dict[str, str | int] = {"decoder": "centre-square", "version": 1}
"""Names what `decode` does in cache keys; a change of its pixels needs another version."""


@DATASETS.register("image-folder")
def load(spec: DataSpec) -> Data:
    """Your own images: root/train/<class>/* and perhaps root/test/<class>/*."""
    if spec.root is None:
        raise BadRequest("image-folder needs the folder that holds train/<class>/*: --set data.root=...")
    root, size = Path(spec.root).expanduser(), spec.size or 32
    names = class_folders(root / "train")
    kept = names[: keep_classes(len(names), spec)]
    train = list_split(root, "train", kept, spec.per_class)
    test = None
    if (root / "test").is_dir():
        present = class_folders(root / "test")
        for name in present:
            if name not in names:
                problem = unknown("class", name, names)
                raise BadRequest(f"{root / 'test' / name}: every class of test must be in train: {problem}")
        test = list_split(root, "test", [n if n in present else None for n in kept]) or None
    got = decoded(Folder(root), train, test, kept, size, decode, DECODER)
    return Data(
        name="image-folder",
        train=got.train,
        test=got.test,
        class_names=tuple(kept),
        mean=got.mean,
        std=got.std,
        augment=Augment(crop=size // 8, flip=True),
        net="convnet",
        recipe={"epochs": 50, "batch": 128, "lr": 0.05},
        fingerprint=got.fingerprint,
    )


def class_folders(split: Path) -> list[str]:
    """The names of the class folders in `split`, sorted. Raises BadRequest if there is none."""
    if not split.is_dir():
        raise BadRequest(
            f"there is no folder {split}: arrange the images as {split.name}/<class>/*, "
            "or say where they are with --set data.root=..."
        )
    names = sorted(p.name for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise BadRequest(f"{split} has no class folders: arrange the images as {split.name}/<class>/*")
    for name in names:
        if split.resolve().is_relative_to((split / name).resolve()):
            raise BadRequest(
                f"class folder {split / name} is a link to a folder that holds it: remove the link"
            )
    return names


def list_split(
    root: Path, split: str, names: Sequence[str | None], per_class: int | None = None, below: str = ""
) -> list[Item]:
    """The images in `root/split/<name>/<below>` of each class, labelled by position; None stands for a class
    without any.

    At most `per_class` of each, evenly spaced in the order of their paths. Raises BadRequest on a class
    without images.
    """
    items = []
    for label, name in enumerate(names):
        if name is None:
            continue
        folder = "/".join(part for part in (split, name, below) if part)
        found = _images_below(root, folder)
        if not found:
            raise BadRequest(
                f"class folder {root / folder} holds no images ({', '.join(SUFFIXES[:3])}, ...): "
                "add images or remove the folder"
            )
        items += [Item(found[i], label) for i in evenly(len(found), per_class)]
    return items


def decode(raw: bytes, size: int) -> Array:
    """The image in `raw` as [size, size, 3] uint8. Raises whatever Pillow raises."""
    from PIL import Image

    with Image.open(io.BytesIO(raw)) as image:
        # A large JPEG is read at a fraction of its size that is still at least twice the one wanted.
        image.draft(None, (2 * size, 2 * size))
        return pixels(image, size)


def pixels(image: Image.Image, size: int) -> Array:
    """An image that Pillow has opened as [size, size, 3] uint8. Raises whatever Pillow raises."""
    from PIL import ImageOps

    return np.asarray(centre_square(_as_rgb(ImageOps.exif_transpose(image)), size))


def _as_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow's own conversion clips instead of scaling
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(wide, 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; store 8 or 16 bits")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _images_below(root: Path, folder: str) -> list[str]:
    """Paths relative to `root` of the images in `folder` and its sub-folders, sorted; links to folders are
    not followed."""
    found, open_folders = [], [folder]
    while open_folders:
        at = open_folders.pop()
        try:
            with os.scandir(root / at) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        open_folders.append(f"{at}/{entry.name}")
                    elif entry.name.lower().endswith(SUFFIXES) and not (
                        entry.is_symlink() and entry.is_dir()
                    ):
                        found.append(f"{at}/{entry.name}")
        except OSError as error:
            raise BadRequest(
                f"{root / at} cannot be listed ({error.strerror}): check data.root and its permissions"
            ) from error
    return sorted(found)
