"""The contracts of every data set, checked on tiny real files in each official layout."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import DATASETS, half_of_classes, load
from cl_core.testing import DATA_SET_CONTRACTS, Contract
from cl_core.testing.small import contents

CLASSES = 5  # of the data sets whose files are written here
IMAGES = 4  # training images of each class in them
NAMES = ("ant", "bee", "cow", "dog", "elk")


def write_images(folder: Path, count: int, seed: int, suffix: str = ".JPEG", side: int = 40) -> list[str]:
    """`count` different image files in `folder`; their names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    names = [f"{folder.name}_{i}{suffix}" for i in range(count)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(folder / name)
    return names


def write_cifar(root: Path, patch: pytest.MonkeyPatch, hundred: bool) -> None:
    """Five classes of CIFAR-10 (or CIFAR-100) as the official pickles, with their own MD5 sums."""
    from torchvision.datasets import CIFAR10, CIFAR100

    rng = np.random.default_rng(0)
    folder = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    key, names = ("fine_labels", "fine_label_names") if hundred else ("labels", "label_names")

    def write(name: str, content: object) -> list[str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch(name: str, count: int) -> list[str]:
        pixels = rng.integers(0, 256, (count * CLASSES, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, key: [i % CLASSES for i in range(count * CLASSES)]})

    train = (
        [batch("train", IMAGES)] if hundred else [batch("data_batch_1", 1), batch("data_batch_2", IMAGES - 1)]
    )
    test = [batch("test" if hundred else "test_batch", 2)]
    meta = write("meta" if hundred else "batches.meta", {names: list(NAMES)})
    made = CIFAR100 if hundred else CIFAR10
    patch.setattr(made, "train_list", train)
    patch.setattr(made, "test_list", test)
    patch.setattr(made, "meta", {"filename": meta[0], "key": names, "md5": meta[1]})


def write_tiny_imagenet(root: Path) -> None:
    root = root / "tiny-imagenet-200"
    wnids = ["n03", "n01", "n02", "n05", "n04"]
    for seed, wnid in enumerate(wnids):
        write_images(root / "train" / wnid / "images", IMAGES, seed)
    held = write_images(root / "val" / "images", 2 * CLASSES, 9)
    rows = [f"{name}\t{wnids[i % CLASSES]}\t0\t0\t62\t62\n" for i, name in enumerate(held)]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    (root / "wnids.txt").write_text("".join(f"{w}\n" for w in wnids))
    (root / "words.txt").write_text(
        "n01\tgoldfish, Carassius auratus\nn02\treel\nn03\tcat, true cat\nn04\tdog\nn05\telk\n"
    )


def write_folders(root: Path, test: str, suffix: str) -> None:
    for seed, name in enumerate(NAMES):
        write_images(root / "train" / name, IMAGES, seed, suffix)
        write_images(root / test / name, 2, 10 + seed, suffix)


Writer = Callable[[Path, pytest.MonkeyPatch], None]
WRITERS: dict[str, Writer] = {
    "cifar10": lambda root, patch: write_cifar(root, patch, hundred=False),
    "cifar100": lambda root, patch: write_cifar(root, patch, hundred=True),
    "tiny-imagenet": lambda root, patch: write_tiny_imagenet(root),
    "imagenet100": lambda root, patch: write_folders(root, "val", ".JPEG"),
    "image-folder": lambda root, patch: write_folders(root, "test", ".png"),
}
"""The data sets that read files. Every other one must be there without any."""
OURS = [name for name in DATASETS.names() if DATASETS[name].__module__.startswith("cl_core.data.")]


@pytest.fixture(params=OURS)
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSpec:
    """A small request for each registered data set; its files lie below `tmp_path / "root"`."""
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    if request.param in WRITERS:
        WRITERS[request.param](root, monkeypatch)
    size = 24 if request.param == "imagenet100" else None
    return DataSpec(request.param, root=str(root), size=size)


@pytest.mark.parametrize("contract", DATA_SET_CONTRACTS, ids=lambda contract: contract.__name__)
def test_a_data_set_keeps_its_contracts(spec: DataSpec, contract: Contract) -> None:
    contract(spec)


def test_a_data_set_of_ours_has_a_test_split_and_its_own_name(spec: DataSpec) -> None:
    data = load(spec)
    assert data.name == spec.name
    assert data.test is not None
    assert len(data.test)


def test_a_half_is_one_of_the_classes_and_images_that_are_kept(spec: DataSpec) -> None:
    cut = load(dataclasses.replace(spec, classes=4, per_class=2))
    half = load(dataclasses.replace(spec, classes=4, per_class=2, half="evaluate"))
    assert half.class_names == tuple(cut.class_names[c] for c in half_of_classes(4, "evaluate"))
    assert np.bincount(half.train.y).tolist() == [2, 2]
    assert contents(half, "train") <= contents(cut, "train")


def test_more_classes_than_there_are_is_a_bad_request(spec: DataSpec) -> None:
    if spec.name == "synthetic":
        assert load(DataSpec("synthetic", classes=130, per_class=1)).num_classes == 130
        return
    have = load(spec).num_classes
    with pytest.raises(BadRequest, match=rf"data.classes is {have + 1}, but .* has {have} classes") as caught:
        load(DataSpec(spec.name, spec.root, spec.size, classes=have + 1))
    assert "\n" not in str(caught.value)


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(spec: DataSpec, tmp_path: Path) -> None:
    before = load(spec)
    if (tmp_path / "root").is_dir():
        (tmp_path / "root").rename(tmp_path / "elsewhere")
    after = load(DataSpec(spec.name, str(tmp_path / "elsewhere"), spec.size))
    assert after.fingerprint == before.fingerprint


def test_missing_files_are_a_bad_request_that_says_where_and_how(spec: DataSpec, tmp_path: Path) -> None:
    if spec.name not in WRITERS:
        assert load(DataSpec(spec.name, root=str(tmp_path / "nowhere"))).num_classes == 10
        return
    with pytest.raises(BadRequest) as caught:
        load(DataSpec(spec.name, root=str(tmp_path / "nowhere")))
    message = str(caught.value)
    assert str(tmp_path / "nowhere") in message
    assert "data.root=" in message
    assert "\n" not in message
