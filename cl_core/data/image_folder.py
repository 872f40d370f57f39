"""Images of your own: `root/train/<class>/*` and, if there is one, `root/test/<class>/*`.

Without `test`, a folder `val`, `valid` or `validation` is the test split, for validation images are always
held out of `train`. Classes are sorted by name, images by path. `cl_core.images.listing` says what is passed
over, `cl_core.images.decoding` what is read and how.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cl_core.errors import BadRequest, unknown
from cl_core.images.cache import decoded
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.decoding import DECODER, decode
from cl_core.images.files import Folder
from cl_core.images.listing import Listing, is_foreign
from cl_core.images.loading import DATASETS, keep_classes

TEST = ("test", "val", "valid", "validation")
"""Folders that may be the test split; the first that is there is."""


@DATASETS.register("image-folder")
def load(spec: DataSpec) -> Data:
    """Your own images: root/train/<class>/* and perhaps root/test/<class>/*, 32 x 32 unless data.size says
    otherwise."""
    if spec.root is None:
        raise BadRequest("image-folder needs the folder that holds train/<class>/*: --set data.root=...")
    root, size = Path(spec.root).expanduser(), spec.size or 32
    check_root(root)
    listing = Listing(root)
    folders = listing.classes("train")
    names = list(folders)[: keep_classes(len(folders), spec)]
    train = listing.images("train", [folders[name] for name in names], spec.per_class)
    split = next((name for name in TEST if (root / name).is_dir()), None)
    test = None
    if split is not None:
        held = held_folders(root / split, listing.classes(split), folders, names)
        test = listing.images(split, held)
    got = decoded(Folder(root), train, test, names, size, decode, DECODER)
    return Data(
        name="image-folder",
        train=got.train,
        test=got.test,
        class_names=tuple(names),
        mean=got.mean,
        std=got.std,
        augment=Augment(crop=size // 8, flip=True),
        net="convnet",
        recipe={"epochs": 50, "batch": 128, "lr": 0.05},
        fingerprint=got.fingerprint,
        notes=(*_on_splits(root, split), *listing.notes, *got.notes(spec)),
    )


def check_root(root: Path) -> None:
    """Raise BadRequest unless `root` is a folder with a folder `train`."""
    if not root.is_dir():
        raise BadRequest(
            f"data.root must be a folder: {str(root)!r} is not. Name the folder with train/ and test/ by "
            "--set data.root=..."
        )
    if (root / "train").is_dir():
        return
    inside = sorted(path.name for path in root.iterdir() if path.is_dir() and not is_foreign(path.name))
    said = f"data.root must hold train/<class>/*: {str(root)!r} has no folder train."
    if root.name in ("train", *TEST):
        raise BadRequest(f"{said} Name the folder above it: --set data.root={root.parent}")
    if inside:
        raise BadRequest(
            f"{said} If its folders ({_few(inside)}) are classes, move them into {root / 'train'}; else name "
            "the folder that holds train/ by --set data.root=..."
        )
    raise BadRequest(f"{said} Move the images there, or name another folder by --set data.root=...")


def held_folders(at: Path, held: Mapping[str, str], trained: Iterable[str], kept: Sequence[str]) -> list[str]:
    """The folders in the test split `at` of the classes `kept`; `held` are its classes and their folders.

    Raises BadRequest on a class that is not trained, and where one of the kept is missing.
    """
    for name, folder in held.items():
        if name not in trained:
            problem = unknown("class", name, trained)
            raise BadRequest(f"{at / folder}: every class of {at.name} must be in train: {problem}")
    lacks = [name for name in kept if name not in held]
    if lacks:
        raise BadRequest(
            f"the test split must have every class: {at} lacks {len(lacks)} of {len(kept)}, such as "
            f"{lacks[0]!r}. Add images of it, or rename {at.name}/ to do without a test split."
        )
    return [held[name] for name in kept]


def _on_splits(root: Path, split: str | None) -> list[str]:
    """Return a note on the folders beside train."""
    out = []
    if split is not None and split != TEST[0]:
        out.append(
            f"{root / split} is the test split, as there is no test/. Validation images are held out of "
            "train/."
        )
    read = {"train", split}
    rest = sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and not is_foreign(path.name) and path.name not in read
    )
    if rest:
        out.append(
            f"not read in {root}: {_few(rest)}. Validation images are held out of train/"
            + (f", test images come from {split}/." if split else ".")
        )
    return out


def _few(names: Sequence[str]) -> str:
    """At most three names, as a list."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
