"""What every data set promises, checked on tiny real files in each official layout."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.dataset import DATASETS, Data, DataSpec, half_of_classes, load
from cl_core.errors import BadRequest
from cl_core.recipe import resolve_recipe

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


@pytest.fixture(params=DATASETS.names())
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSpec:
    """A small request for each registered data set; its files lie below `tmp_path / "root"`."""
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    writers: dict[str, Callable[[], None]] = {
        "digits": lambda: None,
        "synthetic": lambda: None,
        "cifar10": lambda: write_cifar(root, monkeypatch, hundred=False),
        "cifar100": lambda: write_cifar(root, monkeypatch, hundred=True),
        "tiny-imagenet": lambda: write_tiny_imagenet(root),
        "imagenet100": lambda: write_folders(root, "val", ".JPEG"),
        "image-folder": lambda: write_folders(root, "test", ".png"),
    }
    if request.param not in writers:
        pytest.skip("comes from another distribution, which tests it")
    writers[request.param]()
    size = 24 if request.param == "imagenet100" else None
    return DataSpec(request.param, root=str(root), size=size)


def test_the_parts_fit_together(spec: DataSpec) -> None:
    data = load(spec)
    channels, height, width = data.shape
    assert data.name == spec.name
    assert data.train.x.shape == (len(data.train), height, width, channels)
    assert data.train.x.dtype == np.uint8
    assert data.train.y.dtype == np.int64
    assert set(data.train.y.tolist()) == set(range(data.num_classes))
    assert len(data.class_names) == data.num_classes >= 3
    assert data.test is not None
    assert data.test.x.shape[1:] == data.train.x.shape[1:]
    assert len(data.mean) == len(data.std) == channels
    assert all(0 < m < 1 for m in data.mean)
    assert all(0 < s <= 1 for s in data.std)
    assert 0 <= data.augment.crop < height
    assert resolve_recipe(data.recipe).epochs >= 1
    assert data.net in ("convnet", "convnet-small", "resnet32", "resnet18")


def test_loading_twice_gives_the_same_data(spec: DataSpec) -> None:
    first, second = load(spec), load(spec)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)
    assert (first.mean, first.std) == (second.mean, second.std)


def test_pixels_can_be_written_to_without_touching_anybody_else(spec: DataSpec) -> None:
    first = load(spec)
    before = first.train.x[0].copy()
    first.train.x[0] = 255 - before
    assert np.array_equal(load(spec).train.x[0], before)


def test_fewer_classes_are_the_first_ones(spec: DataSpec) -> None:
    whole, part = load(spec), load(DataSpec(spec.name, spec.root, spec.size, classes=2))
    assert whole.test is not None
    assert part.test is not None
    assert part.class_names == whole.class_names[:2]
    kept = whole.train.y < 2
    assert np.array_equal(part.train.x, whole.train.x[kept])
    assert np.array_equal(part.train.y, whole.train.y[kept])
    assert len(part.test) == int((whole.test.y < 2).sum())
    assert part.fingerprint != whole.fingerprint


def test_fewer_images_of_a_class_are_training_images(spec: DataSpec) -> None:
    whole, part = load(spec), load(DataSpec(spec.name, spec.root, spec.size, per_class=2))
    assert np.bincount(part.train.y).tolist() == [2] * whole.num_classes
    there = {image.tobytes() for image in whole.train.x}
    assert all(image.tobytes() in there for image in part.train.x)
    assert whole.test is not None
    assert part.test is not None
    assert len(part.test) == len(whole.test)
    assert part.fingerprint != whole.fingerprint


def _as_rows(data: Data, split: str) -> set[tuple[str, bytes]]:
    images = data.train if split == "train" else data.test
    assert images is not None
    return {(data.class_names[y], x.tobytes()) for x, y in zip(images.x, images.y, strict=True)}


def test_the_halves_share_no_class_and_together_are_the_whole(spec: DataSpec) -> None:
    whole = load(spec)
    tune, evaluate = (load(dataclasses.replace(spec, half=half)) for half in ("tune", "evaluate"))
    assert set(tune.class_names).isdisjoint(evaluate.class_names)
    for half, name in ((tune, "tune"), (evaluate, "evaluate")):
        ids = half_of_classes(whole.num_classes, name)
        assert half.class_names == tuple(whole.class_names[c] for c in ids)
        assert set(half.train.y.tolist()) == set(range(len(ids)))
        assert half.test is not None
        assert half.test.y.max() < len(ids)
    assert tune.num_classes - evaluate.num_classes == whole.num_classes % 2
    for split in ("train", "test"):
        assert _as_rows(tune, split) | _as_rows(evaluate, split) == _as_rows(whole, split)
    assert len(tune.train) + len(evaluate.train) == len(whole.train)
    assert len({whole.fingerprint, tune.fingerprint, evaluate.fingerprint}) == 3


def test_a_half_is_one_of_the_classes_and_images_that_are_kept(spec: DataSpec) -> None:
    cut = load(dataclasses.replace(spec, classes=4, per_class=2))
    half = load(dataclasses.replace(spec, classes=4, per_class=2, half="evaluate"))
    assert half.class_names == tuple(cut.class_names[c] for c in half_of_classes(4, "evaluate"))
    assert np.bincount(half.train.y).tolist() == [2, 2]
    assert _as_rows(half, "train") <= _as_rows(cut, "train")


def test_more_classes_than_there_are_is_a_bad_request(spec: DataSpec) -> None:
    if spec.name == "synthetic":
        assert load(DataSpec("synthetic", classes=130, per_class=1)).num_classes == 130
        return
    have = load(spec).num_classes
    with pytest.raises(BadRequest, match=rf"data.classes is {have + 1}, but .* has {have} classes") as caught:
        load(DataSpec(spec.name, spec.root, spec.size, classes=have + 1))
    assert "\n" not in str(caught.value)


def test_another_size_gives_squares_of_that_size(spec: DataSpec) -> None:
    data = load(DataSpec(spec.name, spec.root, size=12))
    assert data.shape[1:] == (12, 12)
    assert data.test is not None
    assert data.test.x.shape[1:3] == (12, 12)


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(spec: DataSpec, tmp_path: Path) -> None:
    before = load(spec)
    if (tmp_path / "root").is_dir():
        (tmp_path / "root").rename(tmp_path / "elsewhere")
    after = load(DataSpec(spec.name, str(tmp_path / "elsewhere"), spec.size))
    assert after.fingerprint == before.fingerprint


def test_missing_files_are_a_bad_request_that_says_where_and_how(spec: DataSpec, tmp_path: Path) -> None:
    if spec.name in ("digits", "synthetic"):
        assert load(DataSpec(spec.name, root=str(tmp_path / "nowhere"))).num_classes == 10
        return
    with pytest.raises(BadRequest) as caught:
        load(DataSpec(spec.name, root=str(tmp_path / "nowhere")))
    message = str(caught.value)
    assert str(tmp_path / "nowhere") in message
    assert "data.root=" in message
    assert "\n" not in message
