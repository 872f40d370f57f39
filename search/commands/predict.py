"""`predict`: the classes of images by a saved model."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cl_core.errors import BadRequest
from cl_core.images.decoding import SUFFIXES
from cl_core.images.listing import Listing
from cl_core.images.pixels import Array
from cl_core.model.model import Answer, load_model
from cl_core.model.pictures import Unreadable, fitted

AT_ONCE = 1024  # images


@dataclass
class Predictions:
    """The answers in the order of the images, and a line for each unreadable image."""

    score: str  # what the scores are: probability, sigmoid, distance, ...
    answers: list[tuple[Path, Answer]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out of folders


def predict(model: Path, images: Sequence[Path], top: int = 1, own_code: bool = False) -> Predictions:
    """Return the `top` classes of each image by the model in a file, in the order of `images`.

    A folder stands for the images below it, sorted by path. Raises BadRequest before any answer for a path
    that does not exist or a folder without images.
    """
    notes: list[str] = []
    paths = [path for given in images for path in _images(given, notes)]
    made = load_model(model, own_code=own_code)
    out = Predictions(made.card.score, notes=notes)
    for start in range(0, len(paths), AT_ONCE):
        read: list[tuple[Path, Array]] = []
        for path in paths[start : start + AT_ONCE]:
            try:
                read.append((path, fitted(path, made.card.shape)))
            except Unreadable as error:
                out.unreadable.append(f"{error}{_remedy(path)}")
        if read:
            answers = made.answers(np.stack([image for _, image in read]), top)
            out.answers += zip((path for path, _ in read), answers, strict=True)
    return out


def _remedy(path: Path) -> str:
    """Return a hint for a text file, which may list images."""
    try:
        with path.expanduser().open("rb") as file:
            start = file.read(1000)
        # What is read may end within a character.
        text = b"\0" not in start and bool(codecs.getincrementaldecoder("utf-8")().decode(start))
    except (OSError, UnicodeDecodeError):  # it is gone, out of reach, or no text
        return ""
    named = shlex.quote(str(path))
    return f"; images that a text file lists: xargs cl-search predict MODEL < {named}" if text else ""


def _images(given: Path, notes: list[str]) -> list[Path]:
    """Return the image itself, or those below a folder; `notes` gets what is left out."""
    place = given.expanduser()
    if not place.exists():
        raise BadRequest(f"there is no image or folder {given}: check the path")
    if not place.is_dir():
        return [place]
    listing = Listing(place)
    found = listing.below()
    notes += listing.notes
    if not found:
        raise BadRequest(f"folder {given} holds no images ({', '.join(SUFFIXES[:3])}, ...): name another")
    return [place / path for path in found]
