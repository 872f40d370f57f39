from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.data import image_folder
from cl_core.errors import BadRequest
from cl_core.images import cache
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.decoding import decode
from cl_core.images.files import Item
from cl_core.images.loading import load
from cl_core.images.pixels import statistics


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of three grey images each; the grey is 10 x (position + 1)."""
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    grey = 0
    for name in ("cat", "ant"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for i in range(3):
            grey += 10
            Image.new("RGB", (32, 32), (grey, grey, grey)).save(
                tmp_path / "data" / "train" / name / f"{i}.png"
            )
    return tmp_path / "data"


def folder(
    root: Path, size: int | None = None, classes: int | None = None, per_class: int | None = None
) -> Data:
    return load(DataSpec("image-folder", root=str(root), size=size, classes=classes, per_class=per_class))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each image that is decoded."""
    made: list[int] = []

    def counting(raw: bytes, size: int) -> tuple[np.ndarray, tuple[int, int]]:
        made.append(1)
        return decode(raw, size)

    monkeypatch.setattr(image_folder, "decode", counting)
    return made


def test_classes_are_sorted_by_name_and_images_by_path(root: Path) -> None:
    data = folder(root)
    assert data.class_names == ("ant", "cat")
    assert data.train.x[:, 0, 0, 0].tolist() == [40, 50, 60, 10, 20, 30]
    assert data.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test is None
    assert data.shape == (3, 32, 32)
    assert data.augment == Augment(crop=4, flip=True)
    assert (data.net, data.recipe) == ("convnet", {"epochs": 50, "batch": 128, "lr": 0.05})


def test_mean_and_deviation_come_from_the_training_pixels(root: Path) -> None:
    data = folder(root)
    assert (data.mean, data.std) == statistics(data.train.x)
    assert data.mean == (pytest.approx(35 / 255, abs=1e-4),) * 3
    assert folder(root).mean == data.mean  # from the cache


def add(root: Path, split: str, *classes: str, grey: int = 99) -> None:
    """One image of each class in a split."""
    for name in classes:
        (root / split / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(root / split / name / "x.png")


def test_a_test_folder_is_the_test_split(root: Path) -> None:
    add(root, "test", "cat", "ant")
    data = folder(root)
    assert data.test is not None
    assert data.test.y.tolist() == [0, 1]
    assert data.test.x[0, 0, 0, 0] == 99
    assert data.notes == ()
    assert len(folder(root, classes=1).test or ()) == 1


def test_other_files_hidden_ones_and_linked_folders_are_passed_over(root: Path) -> None:
    before = folder(root).fingerprint
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    (root / "train" / "cat" / "._0.png").write_bytes(b"not an image either")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "README.md").write_text("")
    (root / "train" / "cat" / "loop").symlink_to(root / "train", target_is_directory=True)
    (root / "train" / "cat" / "loop.png").symlink_to(root, target_is_directory=True)
    (root / "train" / "self").symlink_to(root / "train" / "self")
    assert folder(root).fingerprint == before


def test_sub_folders_and_a_linked_class_folder_count(root: Path, tmp_path: Path) -> None:
    before = folder(root).fingerprint
    (root / "train" / "cat").rename(tmp_path / "elsewhere")
    (root / "train" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "more").mkdir()
    (tmp_path / "elsewhere" / "2.png").rename(tmp_path / "elsewhere" / "more" / "2.PNG")
    assert folder(root).fingerprint == before


def test_a_class_folder_that_links_to_what_holds_it_is_refused(root: Path) -> None:
    (root / "train" / "dog").symlink_to(root, target_is_directory=True)
    with pytest.raises(BadRequest, match="dog is a link to a folder that holds it"):
        folder(root)


def break_empty(root: Path) -> None:
    (root / "train" / "dog").mkdir()


def break_only_text(root: Path) -> None:
    (root / "train" / "dog").mkdir()
    (root / "train" / "dog" / "a.txt").write_text("")


def break_no_train(root: Path) -> None:
    (root / "train").rename(root / "training")


def break_no_classes(root: Path) -> None:
    (root / "train").rename(root / "away")
    (root / "train").mkdir()


def break_image(root: Path) -> None:
    (root / "train" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")


def break_truncated(root: Path) -> None:
    whole = (root / "train" / "cat" / "1.png").read_bytes()
    (root / "train" / "cat" / "1.png").write_bytes(whole[: len(whole) - 40])


def break_link(root: Path) -> None:
    (root / "train" / "cat" / "9.png").symlink_to(root / "nowhere.png")


def break_test_class(root: Path) -> None:
    (root / "test" / "cow").mkdir(parents=True)


def break_float(root: Path) -> None:
    Image.new("F", (32, 32), 0.5).save(root / "train" / "cat" / "x.tiff")


@pytest.mark.parametrize(
    ("damage", "named", "remedy"),
    [
        (break_empty, "train/dog", "add images or remove the folder"),
        (break_only_text, "train/dog", "add images or remove the folder"),
        (break_no_train, "train", "If its folders ('training') are classes, move them into"),
        (break_no_classes, "train", "arrange the images as train/<class>"),
        (break_image, "train/cat/1.png", "repair or remove it"),
        (break_truncated, "train/cat/1.png", "repair or remove it"),
        (break_link, "train/cat/9.png", "restore or remove it"),
        (break_test_class, "test/cow", "known: ant, cat"),
        (break_float, "train/cat/x.tiff", "store 8 or 16 bits"),
    ],
)
def test_what_is_wrong_is_one_line_with_path_and_remedy(
    root: Path, damage: Callable[[Path], None], named: str, remedy: str
) -> None:
    damage(root)
    with pytest.raises(BadRequest) as caught:
        folder(root)
    message = str(caught.value)
    assert str(root / named) in message
    assert remedy in message
    assert "\n" not in message


def test_no_root_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match=r"--set data\.root="):
        load("image-folder")


def test_images_are_decoded_once_and_then_mapped(root: Path, calls: list[int]) -> None:
    first = folder(root)
    assert len(calls) == 6
    second = folder(root)
    assert len(calls) == 6
    assert isinstance(second.train.x, np.memmap)
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.train.x, first.train.x)


def test_the_stored_fingerprint_is_the_one_of_the_pixels(root: Path) -> None:
    data = folder(root)
    same = Data.from_arrays(np.array(data.train.x), data.train.y, class_names=data.class_names)
    assert same.fingerprint == data.fingerprint
    assert (same.mean, same.std) == (data.mean, data.std)


def test_a_changed_file_another_size_and_another_cut_are_decoded_anew(root: Path, calls: list[int]) -> None:
    before = folder(root).fingerprint
    Image.new("RGB", (32, 32), (1, 2, 3)).save(root / "train" / "cat" / "0.png")
    os.utime(root / "train" / "cat" / "0.png", ns=(1, 1))
    assert folder(root).fingerprint != before
    assert len(calls) == 12
    folder(root, size=16)
    assert len(calls) == 18
    folder(root, classes=1, per_class=2)
    assert len(calls) == 20


@pytest.mark.parametrize(
    "damage", ["truncate", "extend", "empty", "no pixels", "no note", "bad note", "old shape"]
)
def test_a_damaged_entry_is_written_again(root: Path, tmp_path: Path, calls: list[int], damage: str) -> None:
    before = folder(root)
    (array,) = (tmp_path / "cache").glob("*.train.npy")
    (note,) = (tmp_path / "cache").glob("*.json")
    raw = array.read_bytes()
    if damage == "truncate":
        array.write_bytes(raw[:-1])
    elif damage == "extend":
        array.write_bytes(raw + b"x")
    elif damage == "empty":
        array.write_bytes(b"")
    elif damage == "no pixels":
        array.unlink()
    elif damage == "no note":
        note.unlink()
    elif damage == "bad note":
        note.write_text("{")
    else:
        np.save(array, np.zeros((5, 32, 32, 3), np.uint8))
    after = folder(root)
    assert len(calls) == 12
    assert after.fingerprint == before.fingerprint
    assert array.read_bytes() == raw
    folder(root)
    assert len(calls) == 12


def test_nothing_but_entries_and_locks_is_left_in_the_cache(root: Path, tmp_path: Path) -> None:
    folder(root)
    assert sorted(p.suffix for p in (tmp_path / "cache").iterdir()) == [".json", ".lock", ".npy"]
    (root / "train" / "cat" / "1.png").write_bytes(b"broken")
    with pytest.raises(BadRequest):
        folder(root)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]


def test_a_cache_that_cannot_be_written_to_costs_only_the_decoding(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    expected = folder(root)
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "occupied" / "below"))
    data = folder(root)
    assert len(calls) == 12
    assert data.fingerprint == expected.fingerprint
    assert (data.mean, data.std) == (expected.mean, expected.std)
    assert np.array_equal(data.train.x, expected.train.x)


def test_a_full_disk_costs_only_the_decoding(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, header: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    assert folder(root).train.x[:, 0, 0, 0].tolist() == [40, 50, 60, 10, 20, 30]
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


def test_workers_that_ask_at_once_decode_once(root: Path, calls: list[int]) -> None:
    prints: list[str] = []
    threads = [threading.Thread(target=lambda: prints.append(folder(root).fingerprint)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(prints) == 4
    assert len(set(prints)) == 1
    assert len(calls) == 6


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CL_SEARCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "cl-search"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "cl-search"
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own"


@pytest.mark.parametrize("quick", [0.0, 1e9])
def test_batches_keep_their_order_with_any_number_of_threads(quick: float) -> None:
    items = [Item(str(i), i) for i in range(103)]
    parts = cache.in_batches(lambda part: [item.label for item in part], items, batch=5, quick=quick)
    assert [label for part in parts for label in part] == list(range(103))


def test_an_error_in_a_later_batch_is_raised() -> None:
    def work(part: list[Item]) -> None:
        if part[0].label >= 50:
            raise BadRequest(f"image {part[0].label}")

    items = [Item(str(i), i) for i in range(100)]
    with pytest.raises(BadRequest, match="image 50"):
        list(cache.in_batches(work, items, batch=5, quick=0.0))  # type: ignore[arg-type]
