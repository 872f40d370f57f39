"""Tiny ImageNet: 200 classes, 100,000 training images of 64 x 64, and the validation split as test split.

`root` holds the official folder `tiny-imagenet-200`, or the official `tiny-imagenet-200.zip` (read in place),
or is one of them. Classes are in the order of `wnids.txt`; their names are the first synonyms of `words.txt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

from cl_core.errors import BadRequest
from cl_core.images.cache import decoded
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.decoding import DECODER, SUFFIXES, decode
from cl_core.images.files import Archive, Files, Folder, Item
from cl_core.images.listing import Listing
from cl_core.images.loading import DATASETS, evenly, keep_classes

_NAME = "tiny-imagenet-200"
_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_MEAN, _STD = (0.4802, 0.4481, 0.3975), (0.2764, 0.2689, 0.2816)  # of all training pixels


@DATASETS.register("tiny-imagenet")
def load(spec: DataSpec) -> Data:
    """Tiny ImageNet: 200 classes, 100,000 + 10,000 images, 64 x 64."""
    files = _find(Path(spec.root or "~/data").expanduser())
    size = spec.size or 64
    wnids = _plain_names(files, "wnids.txt", _lines(files, "wnids.txt"))
    kept = wnids[: keep_classes(len(wnids), spec)]
    names = _class_names(files, kept)
    train = _train(files, kept, spec.per_class)
    test = _test(files, kept)
    got = decoded(files, train, test, names, size, decode, DECODER)
    return Data(
        name="tiny-imagenet",
        train=got.train,
        test=got.test,
        class_names=tuple(names),
        mean=_MEAN,
        std=_STD,
        augment=Augment(crop=size // 8, flip=True),
        net="resnet32" if size <= 32 else "resnet18",
        recipe={"epochs": 100, "batch": 128, "lr": 0.1},
        fingerprint=got.fingerprint,
        notes=got.notes(spec),
    )


def _find(root: Path) -> Folder | Archive:
    for folder in (root / _NAME, root):
        if (folder / "wnids.txt").is_file() and (folder / "train").is_dir():
            return Folder(folder)
    for path in (root / f"{_NAME}.zip", root):
        if path.is_file():
            try:
                archive = Archive(path)
            except (BadZipFile, OSError) as error:
                raise BadRequest(
                    f"{path} is not a readable zip archive ({error}): fetch {_URL} again"
                ) from error
            if f"{_NAME}/wnids.txt" in archive.zip.NameToInfo:
                archive.prefix = f"{_NAME}/"
            return archive
    raise BadRequest(
        f"tiny-imagenet was looked for in {root / _NAME} and {root / _NAME}.zip and is not there: "
        f"fetch {_URL}, or say where it is with --set data.root=..."
    )


def _lines(files: Files, name: str) -> list[str]:
    """The lines of a text file that are not empty. Raises BadRequest if it cannot be read."""
    try:
        text = files.read(name).decode()
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise BadRequest(
            f"tiny-imagenet needs {files.where(name)}, which cannot be read: fetch {_URL} again"
        ) from error
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _plain_names(files: Files, source: str, names: list[str]) -> list[str]:
    """`names` themselves. Raises BadRequest if one of them could lead out of its folder."""
    for name in names:
        if "/" in name or "\\" in name or name in (".", ".."):
            raise BadRequest(f"{files.where(source)} must hold plain names, not {name!r}: fetch {_URL} again")
    return names


def _class_names(files: Files, wnids: Sequence[str]) -> list[str]:
    """The first synonym of each class; its wnid where there is none, and added where two would be equal."""
    try:
        words = dict(line.split("\t", 1) for line in _lines(files, "words.txt") if "\t" in line)
    except BadRequest:  # a help to the reader, not needed
        words = {}
    names = [words.get(wnid, wnid).split(",")[0].strip() or wnid for wnid in wnids]
    seen = Counter(names)
    return [name if seen[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


def _train(files: Folder | Archive, wnids: Sequence[str], per_class: int | None) -> list[Item]:
    if isinstance(files, Folder):
        return Listing(files.root).images("train", wnids, per_class, below="images")
    found: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    for name in files.names():
        parts = name.split("/")
        if parts[0] == "train" and len(parts) == 4 and parts[1] in found and name.lower().endswith(SUFFIXES):
            found[parts[1]].append(name)
    for wnid, images in found.items():
        if not images:
            raise BadRequest(f"{files.where(f'train/{wnid}/images')} holds no images: fetch {_URL} again")
    return [
        Item(sorted(images)[i], label)
        for label, images in enumerate(found.values())
        for i in evenly(len(images), per_class)
    ]


def _test(files: Files, wnids: Sequence[str]) -> list[Item]:
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    rows = [line.split("\t") for line in _lines(files, "val/val_annotations.txt")]
    _plain_names(files, "val/val_annotations.txt", [row[0] for row in rows])
    if any(len(row) < 2 for row in rows):
        raise BadRequest(
            f"{files.where('val/val_annotations.txt')} needs a file and a class a line: fetch {_URL} again"
        )
    return [Item(f"val/images/{row[0]}", labels[row[1]]) for row in rows if row[1] in labels]
