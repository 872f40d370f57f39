"""Folders of images: what is found, what is passed over, and what is refused before anything is decoded."""

from __future__ import annotations

import io
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.loading import load

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes, ant and cat, of two images of the default size in train and one in test."""
    monkeypatch.setenv("CL_SEARCH_CACHE", str(tmp_path / "cache"))
    for name in ("ant", "cat"):
        for path in (f"train/{name}/0.png", f"train/{name}/1.png", f"test/{name}/0.png"):
            put(tmp_path / "data" / path)
    return tmp_path / "data"


def put(path: Path, side: int = 32) -> None:
    """An image whose grey its path decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = sum(unicodedata.normalize("NFC", path.name).encode("utf-8", "surrogateescape")) % 256
    Image.new("L", (side, side), grey).save(path, format="PNG")


def found(root: Path, size: int | None = None, classes: int | None = None) -> Data:
    return load(DataSpec("image-folder", root=str(root), size=size, classes=classes))


def refusal(root: Path) -> str:
    with pytest.raises(BadRequest) as caught:
        found(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_folder_needs_no_note(root: Path) -> None:
    assert found(root).notes == ()


def test_what_is_passed_over_is_counted_once_with_an_example(root: Path) -> None:
    before = found(root)
    for name in ("a.heic", "b.HEIC", "notes.txt", "noending", ".DS_Store"):
        (root / "train" / "cat" / name).write_text("no image")
    (root / "train" / "README.md").write_text("")
    put(root / "train" / "loose.png")
    put(root / "test" / "cat" / "@eaDir" / "thumbnail.png")
    put(root / "train" / "__MACOSX" / "._0.png")
    (root / "train" / "cat" / "loop").symlink_to(root / "train", target_is_directory=True)
    os.mkfifo(root / "train" / "cat" / "pipe.png")  # reading it would wait for ever
    after = found(root)
    assert after.fingerprint == before.fingerprint
    (note,) = after.notes
    assert note.startswith(f"passed over in {root}: 2 .heic, 1 .md, 1 .txt, 2 of other programs, ")
    assert ", such as 'train/cat/a.heic'." in note
    assert sum(int(part.split()[0]) for part in note.split(": ")[1].split(", such")[0].split(", ")) == 11
    assert found(root).notes == after.notes


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("train/cat/a.heic", "Convert what is an image to PNG or JPEG to use it."),
        ("train/cat/noending", "Convert what is an image to PNG or JPEG to use it."),
        ("train/loose.png", "Move what is an image into the folder of its class to use it."),
        ("train/cat/.hidden.png", "such as 'train/cat/.hidden.png'."),
    ],
)
def test_a_note_has_the_remedy_of_what_was_passed_over(root: Path, name: str, remedy: str) -> None:
    put(root / "image.png")
    (root / "image.png").rename(root / name)
    (note,) = found(root).notes
    assert note.endswith(remedy)


def test_a_note_on_sizes_counts_what_is_resized_and_stands_in_the_cache(root: Path) -> None:
    put(root / "train" / "cat" / "0.png", side=48)
    put(root / "test" / "ant" / "0.png", side=40)
    (note,) = found(root).notes
    assert note == (
        "data.size is not given, so images become 32x32 pixels: 2 of 6 have another size, such as 48x48. "
        "Set data.size to change that."
    )
    assert found(root).notes == (note,)
    assert found(root, size=32).notes == ()


def test_formats_of_every_common_camera_and_program_are_images(root: Path) -> None:
    picture = Image.new("RGB", (32, 32), "green")
    for name, form in (("a.jfif", "JPEG"), ("b.JPE", "JPEG"), ("c.jp2", "JPEG2000"), ("d.tga", "TGA")):
        picture.save(root / "train" / "cat" / name, format=form)
    data = found(root)
    assert len(data.train) == 8
    assert data.notes == ()


def test_val_is_the_test_split_where_there_is_no_test(root: Path) -> None:
    expected = found(root)
    for name in ("val", "valid", "validation"):
        (root / "test").rename(root / name)
        data = found(root)
        assert data.fingerprint == expected.fingerprint
        (note,) = data.notes
        assert note.startswith(f"{root / name} is the test split, as there is no test/.")
        (root / name).rename(root / "test")


def test_folders_beside_train_and_test_that_are_not_read_are_named(root: Path) -> None:
    put(root / "val" / "cat" / "0.png")
    (root / "spare").mkdir()
    (root / ".git").mkdir()
    (note,) = found(root).notes
    assert note.startswith(f"not read in {root}: 'spare', 'val'. Validation images are held out of train/")


def test_class_names_in_two_unicode_forms_are_one_class(root: Path) -> None:
    put(root / "train" / COMPOSED / "0.png")
    put(root / "test" / DECOMPOSED / "0.png")
    data = found(root)
    assert data.class_names == ("ant", COMPOSED, "cat")
    (root / "train" / COMPOSED).rename(root / "train" / DECOMPOSED)
    assert found(root).fingerprint == data.fingerprint


def test_images_have_one_order_in_both_unicode_forms(root: Path) -> None:
    names = ["cafe.png", f"{COMPOSED}.png", "cafz.png"]  # decomposed, the second would come last but one
    for name in names:
        put(root / "train" / "cat" / name)
    before = found(root).fingerprint
    (root / "train" / "cat" / names[1]).rename(root / "train" / "cat" / f"{DECOMPOSED}.png")
    assert found(root).fingerprint == before


def test_two_forms_of_a_name_in_one_split_are_refused(root: Path) -> None:
    put(root / "train" / COMPOSED / "0.png")
    put(root / "train" / DECOMPOSED / "0.png")
    message = refusal(root)
    assert r"'cafe\u0301' and 'caf\xe9'" in message
    assert "Merge them, or rename one." in message


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (b"caf\xe9", "be UTF-8"),
        (b"a\nb", "have no control characters"),
        (b"a\x1b[31m", "have no control characters"),
        ("a\u2028b".encode(), "have no control characters"),
    ],
)
def test_a_folder_whose_name_no_table_can_carry_is_refused(root: Path, name: bytes, rule: str) -> None:
    (root / "train" / "cat").rename(root / "train" / os.fsdecode(name))
    message = refusal(root)
    assert message.startswith(f"class names must {rule}: the folder {name!r} in {root / 'train'} ")
    assert "Rename it." in message
    message.encode()


def test_an_image_whose_name_is_no_utf8_is_an_image(root: Path) -> None:
    (root / "train" / "cat" / "1.png").rename(root / "train" / "cat" / os.fsdecode(b"\xe9.png"))
    assert len(found(root).train) == 4


def test_a_test_split_that_lacks_classes_is_refused(root: Path) -> None:
    shutil.rmtree(root / "test" / "cat")
    message = refusal(root)
    assert f"{root / 'test'} lacks 1 of 2, such as 'cat'. Add images of it" in message
    assert found(root, classes=1).test is not None  # ant, which it has


def test_class_folders_without_train_above_them_are_told_where_to_go(root: Path) -> None:
    assert f"move them into {root / 'train' / 'train'}" in refusal(root / "train").replace(
        f"Name the folder above it: --set data.root={root}", f"move them into {root / 'train' / 'train'}"
    )
    shutil.rmtree(root / "test")
    (root / "train").rename(root / "photos")
    message = refusal(root / "photos")
    assert f"If its folders ('ant', 'cat') are classes, move them into {root / 'photos' / 'train'}" in message


def test_a_class_of_other_files_alone_says_what_it_holds(root: Path) -> None:
    (root / "train" / "dog").mkdir()
    for i in range(3):
        (root / "train" / "dog" / f"{i}.heic").write_text("")
    assert "dog holds no images (.jpg, .jpeg, .jpe, ...), but 3 .heic: add images" in refusal(root)


@pytest.mark.parametrize("name", ["imagenet100", "tiny-imagenet"])
def test_other_data_sets_refuse_a_test_split_that_lacks_classes(root: Path, name: str) -> None:
    (root / "test").rename(root / "val")
    shutil.rmtree(root / "val" / "cat")
    if name == "tiny-imagenet":
        for wnid in ("ant", "cat"):
            (root / "train" / wnid).rename(root / "images")
            (root / "train" / wnid).mkdir()
            (root / "images").rename(root / "train" / wnid / "images")
        put(root / "val" / "images" / "0.png")
        (root / "val" / "val_annotations.txt").write_text("0.png\tant\t0\t0\t1\t1\n")
        (root / "wnids.txt").write_text("ant\ncat\n")
    with pytest.raises(BadRequest, match=r"test split .*must have every class.* lacks 1 of 2.*'cat'"):
        load(DataSpec(name, root=str(root), size=32))


def test_validation_images_of_more_classes_than_are_trained_are_imagenets_way(root: Path) -> None:
    (root / "test").rename(root / "val")
    put(root / "val" / "dog" / "0.png")
    data = load(DataSpec("imagenet100", root=str(root), size=32))
    assert data.test is not None
    assert data.test.y.tolist() == [0, 1]


def test_a_list_of_classes_that_cannot_be_read_is_refused(root: Path) -> None:
    (root / "test").rename(root / "val")
    for content, said in (
        (b"caf\xe9\n", "must be readable UTF-8"),
        (b"\n", "is empty"),
        (b"dog", "names a class"),
    ):
        (root / "classes.txt").write_bytes(content)
        with pytest.raises(BadRequest, match=said):
            load(DataSpec("imagenet100", root=str(root), size=32))


def test_a_path_that_is_too_long_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"'image-folder' cannot be read .*check data\.root"):
        load(DataSpec("image-folder", root=str(tmp_path / ("x" * 300))))


def _raw(kind: tuple[str, str], width: int, height: int, seed: int) -> bytes:
    form, mode = kind
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, form)
    return out.getvalue()


_KINDS = [
    *(("PNG", mode) for mode in ("RGB", "L", "1", "P", "LA", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("RGB", "CMYK", "LAB", "I", "F")),
    ("JPEG", "CMYK"),
]
_SIDES = st.integers(1, 40)
_PICTURES = st.one_of(
    st.builds(_raw, st.sampled_from(_KINDS), _SIDES, _SIDES, st.integers(0, 9)), st.binary(max_size=20)
)
_NAMES = st.one_of(
    st.sampled_from(["ant", "cat", COMPOSED, DECOMPOSED, "__MACOSX", ".git", "a\nb", "[b]x[/b]", "<b>"]).map(
        os.fsencode
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).map(
        str.encode
    ),
    st.binary(min_size=1, max_size=8).filter(lambda b: b"/" not in b and b"\0" not in b),
).filter(lambda b: b not in (b".", b".."))
_FILES = st.dictionaries(
    st.tuples(
        st.sampled_from([b"train", b"test", b"val", b""]),
        _NAMES,
        st.sampled_from([b"0.png", b"1.tif", b"2.JFIF", b"3.txt", b"in/4.png", b".5.png"]),
    ),
    _PICTURES,
    max_size=6,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(_FILES, st.booleans())
def test_whatever_a_folder_holds_is_loaded_or_refused_in_one_line(
    root: Path, files: dict[tuple[bytes, bytes, bytes], bytes], clean: bool
) -> None:
    place = root.parent / "fuzz"
    shutil.rmtree(place, ignore_errors=True)
    if clean:  # most random folders are refused at the first of their names
        shutil.copytree(root, place)
    for parts, content in files.items():
        path = Path(os.fsdecode(b"/".join([os.fsencode(place), *filter(None, parts)])))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (NotADirectoryError, FileExistsError, IsADirectoryError):
            continue
    data = loaded(place)
    if data is not None:
        assert set(data.train.y.tolist()) == set(range(data.num_classes))
        assert found(place).notes == data.notes


def loaded(place: Path) -> Data | None:
    """The data, or None where they are refused in one line."""
    try:
        return found(place)
    except BadRequest:
        refusal(place)
        return None
