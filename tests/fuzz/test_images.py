"""Folders and archives of images with damaged files and strange names."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import load
from tests.fuzz.damage import damaged, fuzzed, refused_in_one_line

NAMES = [
    "a",
    "b",
    "ant.png",
    "é",
    "e\u0301",
    ".hidden",
    "train",
    "x" * 250,
    "__MACOSX",
    "a b",
    "-",
    "0.JPEG",
    "\udcff",
]


def _image(ending: str, grey: int = 7) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((9, 8, 3), grey, np.uint8)).save(content, ending)
    return content.getvalue()


IMAGES = {ending: _image(ending) for ending in ("png", "jpeg", "gif", "bmp", "webp")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@st.composite
def trees(draw: st.DrawFn) -> dict[str, bytes | None]:
    """Paths below a folder with what they hold; None is an empty folder."""
    tree: dict[str, bytes | None] = {}
    for split in ("train", "test", "val"):
        for name in "ab":
            if draw(st.integers(0, 9)):
                tree[f"{split}/{name}/0.png"] = IMAGES["png"]
    for _ in range(draw(st.integers(0, 3))):
        parts = draw(st.lists(st.sampled_from([*NAMES, "train", "test", "a"]), min_size=1, max_size=4))
        ending = draw(st.sampled_from(sorted(IMAGES)))
        content = draw(st.one_of(st.none(), st.just(IMAGES[ending]), damaged(IMAGES[ending])))
        tree["/".join(parts) + ("" if content is None else f"/i.{ending}")] = content
    return tree


@given(tree=trees(), size=st.sampled_from([None, 8, 4]))
@fuzzed
def test_a_strange_folder_of_images_is_read_or_refused_in_one_line(
    root: Path, tree: dict[str, bytes | None], size: int | None
) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for name, content in tree.items():
        path = root / name
        try:
            (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)
        except OSError:  # a file stands where a folder should, or the system refuses the name
            continue
    refused_in_one_line(lambda: load(DataSpec("image-folder", root=str(root), size=size)))


def _archive() -> bytes:
    content, top = io.BytesIO(), "tiny-imagenet-200"
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("n01", "n02"):
            for number in range(2):
                archive.writestr(f"{top}/train/{name}/images/{name}_{number}.JPEG", IMAGES["jpeg"])
        archive.writestr(f"{top}/val/images/val_0.JPEG", IMAGES["jpeg"])
        archive.writestr(f"{top}/val/val_annotations.txt", "val_0.JPEG\tn01\t0\t1\t2\t3\n")
        archive.writestr(f"{top}/wnids.txt", "n01\nn02\n")
        archive.writestr(f"{top}/words.txt", "n01\tcrane\nn02\tgoldfish\n")
    return content.getvalue()


ARCHIVE = _archive()


@given(content=damaged(ARCHIVE))
@fuzzed
def test_a_damaged_archive_is_read_or_refused_in_one_line(root: Path, content: bytes) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "tiny-imagenet-200.zip").write_bytes(content)
    refused_in_one_line(lambda: load(DataSpec("tiny-imagenet", root=str(root), size=8)))
