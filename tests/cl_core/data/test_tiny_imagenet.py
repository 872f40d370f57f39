from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load

WNIDS = ["n03", "n01", "n02"]
GREY = {"n03": 30, "n01": 130, "n02": 230}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official layout, with images whose grey tells their class: 30, 130, 230."""
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "data" / "tiny-imagenet-200"
    for wnid in WNIDS:
        folder = top / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((64, 64), GREY[wnid] + i, np.uint8)).save(folder / f"{wnid}_{i}.JPEG")
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text("n03_0.JPEG\t0\t0\t1\t1\n")
    (top / "val" / "images").mkdir(parents=True)
    rows = []
    for i, wnid in enumerate(["n01", "n03", "n01", "n02"]):
        Image.fromarray(np.full((64, 64), GREY[wnid], np.uint8)).save(
            top / "val" / "images" / f"val_{i}.JPEG"
        )
        rows.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(rows))
    (top / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (top / "words.txt").write_text(
        "n01\tcrane\nn02\tgoldfish, Carassius auratus\nn03\tcrane, bird\nn99\tnobody\n"
    )
    return tmp_path / "data"


def spec(
    root: Path, size: int | None = None, classes: int | None = None, per_class: int | None = None
) -> DataSpec:
    return DataSpec("tiny-imagenet", root=str(root), size=size, classes=classes, per_class=per_class)


def test_classes_follow_wnids_and_the_validation_split_is_the_test_split(root: Path) -> None:
    data = load(spec(root))
    assert data.test is not None
    assert data.train.x[:, 0, 0, 0].tolist() == [30, 31, 32, 130, 131, 132, 230, 231, 232]
    assert data.train.y.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.y.tolist() == [1, 0, 1, 2]
    assert data.test.x[:, 5, 5, 1].tolist() == [130, 30, 130, 230]


def test_names_are_first_synonyms_and_equal_ones_are_told_apart(root: Path) -> None:
    assert load(spec(root)).class_names == ("crane (n03)", "crane (n01)", "goldfish")
    (root / "tiny-imagenet-200" / "words.txt").unlink()
    assert load(spec(root)).class_names == ("n03", "n01", "n02")


def test_the_zip_is_read_in_place_and_gives_the_same_data(root: Path) -> None:
    unpacked = load(spec(root))
    shutil.make_archive(str(root / "tiny-imagenet-200"), "zip", root, "tiny-imagenet-200")
    shutil.rmtree(root / "tiny-imagenet-200")
    for place in (root, root / "tiny-imagenet-200.zip"):
        packed = load(spec(place))
        assert packed.fingerprint == unpacked.fingerprint
    assert [p.name for p in root.iterdir()] == ["tiny-imagenet-200.zip"]


def test_the_root_may_be_the_folder_itself(root: Path) -> None:
    assert load(spec(root / "tiny-imagenet-200")).fingerprint == load(spec(root)).fingerprint


def test_64_pixels_unless_a_size_is_asked(root: Path) -> None:
    data, small = load(spec(root)), load(spec(root, size=32))
    assert data.shape == (3, 64, 64)
    assert (data.net, data.augment.crop) == ("resnet18", 8)
    assert small.shape == (3, 32, 32)
    assert (small.net, small.augment.crop) == ("resnet32", 4)


def test_a_small_request_decodes_only_what_it_needs(root: Path) -> None:
    top = root / "tiny-imagenet-200"
    for path in (top / "train" / "n02" / "images").iterdir():
        path.write_bytes(b"broken")  # of the third class
    (top / "train" / "n03" / "images" / "n03_1.JPEG").write_bytes(b"broken")
    data = load(spec(root, classes=2, per_class=1))
    assert data.train.x[:, 0, 0, 0].tolist() == [30, 130]
    assert data.test is not None
    assert data.test.y.tolist() == [1, 0, 1]


def test_a_name_that_leads_out_of_the_folder_is_refused(root: Path) -> None:
    notes = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    notes.write_text("../../../secret.JPEG\tn01\t0\t0\t1\t1\n")
    with pytest.raises(BadRequest, match="must hold plain names"):
        load(spec(root))


def test_a_broken_archive_and_a_missing_file_are_bad_requests(root: Path) -> None:
    (root / "tiny-imagenet-200" / "val" / "images" / "val_0.JPEG").unlink()
    with pytest.raises(BadRequest, match=r"val_0\.JPEG cannot be read"):
        load(spec(root))
    shutil.rmtree(root / "tiny-imagenet-200")
    (root / "tiny-imagenet-200.zip").write_bytes(b"PK but no more")
    with pytest.raises(BadRequest, match="not a readable zip archive"):
        load(spec(root))
