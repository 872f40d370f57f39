"""A 100-class subset of ImageNet: `root/train/<wnid>/*.JPEG`, and `root/val/<wnid>/*.JPEG` as test split.

The classes and their order are the lines of `root/classes.txt` (a wnid, perhaps followed by a name), else the
first 100 folders of `train` sorted by name. `root` may also be the folder that holds `imagenet100`.
"""

from __future__ import annotations

from pathlib import Path

from cl_core.data.image_folder import held_folders
from cl_core.errors import BadRequest, first_line, unknown
from cl_core.images.cache import decoded
from cl_core.images.class_names import composed
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.decoding import DECODER, decode
from cl_core.images.files import Folder
from cl_core.images.listing import Listing
from cl_core.images.loading import DATASETS, keep_classes


@DATASETS.register("imagenet100")
def load(spec: DataSpec) -> Data:
    """ImageNet-100: 100 classes of ImageNet, 224 x 224 unless data.size says otherwise."""
    root, size = _find(Path(spec.root or "~/data").expanduser()), spec.size or 224
    listing = Listing(root)
    present = listing.classes("train")
    wnids, names = _classes(root, list(present))
    kept = keep_classes(len(wnids), spec)
    wnids, names = wnids[:kept], names[:kept]
    train = listing.images("train", [present[wnid] for wnid in wnids], spec.per_class)
    test = None
    if (root / "val").is_dir():
        # Beside 100 classes to train on may lie the validation images of all 1,000.
        held = {wnid: folder for wnid, folder in listing.classes("val").items() if wnid in present}
        test = listing.images("val", held_folders(root / "val", held, present, wnids))
    got = decoded(Folder(root), train, test, names, size, decode, DECODER)
    return Data(
        name="imagenet100",
        train=got.train,
        test=got.test,
        class_names=tuple(names),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment=Augment(crop=size // 8, flip=True),
        net="resnet18",
        recipe={"epochs": 100, "batch": 128, "lr": 0.1},
        fingerprint=got.fingerprint,
        notes=(*listing.notes, *got.notes(spec)),
    )


def _find(root: Path) -> Path:
    for folder in (root / "imagenet100", root):
        if (folder / "train").is_dir():
            return folder
    raise BadRequest(
        f"imagenet100 was looked for in {root / 'imagenet100'} and {root}, and neither has train/<wnid>/*: "
        "say where it is with --set data.root=..."
    )


def _classes(root: Path, present: list[str]) -> tuple[list[str], list[str]]:
    """The wnids in class order, and their names."""
    path = root / "classes.txt"
    if not path.is_file():
        return present[:100], present[:100]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"{path} must be readable UTF-8 text, a class a line: {first_line(error)}"
        ) from error
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadRequest(f"{path} must name the classes, one a line, and is empty: fill or remove it")
    wnids = [composed(line[0]) for line in lines]
    for wnid in wnids:
        if wnid not in present:
            raise BadRequest(
                f"{path} names a class that is not in {root / 'train'}: {unknown('class', wnid, present)}"
            )
    names = [line[1].split(",")[0].strip() if len(line) > 1 else line[0] for line in lines]
    return wnids, names if len(set(names)) == len(names) else wnids
