"""What a saved model says of images: `predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cl_core.errors import BadRequest

AT_ONCE = 1024  # images


@dataclass(frozen=True)
class Answer:
    """The class of one image by name, and its score: the largest over the classes."""

    image: Path
    name: str
    score: float


def predict(model: Path, images: Sequence[Path], own_code: bool = False) -> list[Answer]:
    """The answers of the model in a file, in the order of `images`; folders stand for the images below them,
    sorted by path.

    Raises BadRequest before any answer where a name leads nowhere, and for a file that is no image.
    """
    from cl_core.model import load_model

    paths = [path for given in images for path in _images(given)]
    made = load_model(model, own_code=own_code)
    out = []
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        scores = made.scores(part)
        best = scores.argmax(axis=1)
        out += [
            Answer(path, made.class_names[c], float(row[c]))
            for path, row, c in zip(part, scores, best.tolist(), strict=True)
        ]
    return out


def _images(given: Path) -> Iterator[Path]:
    """The image itself, or those below a folder. Links to folders are not followed."""
    from cl_core.data.image_folder import SUFFIXES

    place = given.expanduser()
    if not place.exists():
        raise BadRequest(f"there is no image or folder {given}: check the path")
    if not place.is_dir():
        yield place
        return
    found = []
    for folder, inner, files in os.walk(place):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    if not found:
        raise BadRequest(f"folder {given} holds no images ({', '.join(SUFFIXES[:3])}, ...): name another")
    yield from sorted(found)
