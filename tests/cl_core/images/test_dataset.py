from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data, Images
from cl_core.images.loading import evenly, half_of_classes, load
from cl_core.images.pixels import Moments, statistics

TUNE = [0, 3, 4, 7, 8]  # of ten classes


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((4, 6, 5), (4, 6, 5, 1)),
        ((4, 6, 5, 3), (4, 6, 5, 3)),
        ((4, 3, 6, 5), (4, 6, 5, 3)),
        ((4, 1, 6, 5), (4, 6, 5, 1)),
    ],
)
def test_arrays_of_every_layout_are_taken(shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    x = pixels(*shape)
    data = Data.from_arrays(x, [0, 1, 0, 1])
    assert data.train.x.shape == stored
    assert data.shape == (stored[3], stored[1], stored[2])
    expected = x.transpose(0, 2, 3, 1) if shape[1] in (1, 3) else x.reshape(stored)
    assert np.array_equal(data.train.x, expected)
    assert Data.from_arrays(expected, [0, 1, 0, 1]).fingerprint == data.fingerprint


def test_floats_in_the_unit_interval_and_tensors_are_taken() -> None:
    x = pixels(4, 6, 5, 3)
    whole = Data.from_arrays(x, [0, 1, 0, 1])
    for floats in ((x / 255).astype(np.float32), torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255):
        assert Data.from_arrays(floats, torch.tensor([0, 1, 0, 1])).fingerprint == whole.fingerprint


def test_the_defaults_for_arrays() -> None:
    data = Data.from_arrays(pixels(6, 16, 16), [0, 1, 2] * 2, test=(pixels(3, 16, 16), [0, 1, 2]))
    assert data.class_names == ("0", "1", "2")
    assert data.num_classes == 3
    assert data.augment == Augment(crop=2, flip=False)
    assert data.name == "arrays"
    assert data.test is not None
    assert len(data.test) == 3


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([[[1]], [[2, 3]]], [0, 1], {}, "x must be one array .*: stack the images"),
        (pixels(4, 6), [0, 1, 0, 1], {}, r"x must be \[N, H, W\].*not \[4, 6\]"),
        (pixels(4, 6, 6, 9), [0, 1, 0, 1], {}, "1 to 4 channels"),
        (pixels(0, 6, 6), [], {}, "no empty axis"),
        (pixels(4, 6, 6).astype(np.int64), [0, 1, 0, 1], {}, r"not int64: .* as in x\.astype\('uint8'\)$"),
        (
            pixels(4, 6, 6).astype(np.uint16) * 257,
            [0, 1, 0, 1],
            {},
            r"as in \(x // 257\)\.astype\('uint8'\)$",
        ),
        (pixels(4, 6, 6) > 9, [0, 1, 0, 1], {}, r"not bool: .* as in x\.astype\('uint8'\) \* 255$"),
        (np.full((4, 6, 6), -70_000), [0, 1, 0, 1], {}, r"from \[-70000, -70000\] to 0\.\.255$"),
        (pixels(4, 6, 6).astype(np.float32), [0, 1, 0, 1], {}, r"must lie in \[0, 1\].*: divide by 255"),
        (np.full((4, 6, 6), 65535.0), [0, 1, 0, 1], {}, r"must lie in \[0, 1\].*: scale it"),
        (np.full((4, 6, 6), np.nan), [0, 1, 0, 1], {}, r"must lie in \[0, 1\]"),
        (pixels(4, 6, 6), [0, 1, 0], {}, "4 images and 3 labels"),
        (pixels(4, 6, 6), [0.0, 1.0, 0.0, 1.0], {}, "whole numbers 0..K-1, not float64"),
        (pixels(4, 6, 6), [[0, 1, 0, 1]], {}, "a flat list"),
        (pixels(4, 6, 6), [0, 1, 0, 3], {}, "class 2 .* has none"),
        (pixels(4, 6, 6), [0, 1, 0, -1], {}, r"labels -1\.\.1"),
        (
            pixels(4, 6, 6),
            [0, 1, 0, 2],
            {"class_names": ["a", "b"]},
            r"labels 0\.\.2, which must lie in 0\.\.1",
        ),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["a", "b", "c"]}, r"class 2 \('c'\)"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["a", "a"]}, "'a' stands twice"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["é", "e\u0301"]}, "'é' stands twice"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["a", "\udce9"]}, r"must be UTF-8: '\\udce9'"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["a", "b\n"]}, r"no control characters: 'b\\n'"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"class_names": ["a", ""]}, "must be text that is not empty: ''"),
        (
            pixels(4, 6, 6),
            [0, 1, 2, 1],
            {"test": (pixels(2, 6, 6), [1, 1])},
            r"test split of 'arrays' must have every class, and lacks 2 of 3, such as class 0 \('0'\)",
        ),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"test": (pixels(2, 5, 6), [0, 1])}, "must have one shape"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"test": (pixels(2, 6, 6), [0, 2])}, r"test split .* labels 0\.\.2"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"test": pixels(2, 6, 6, 3)[0]}, "test must be a pair"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"std": [0.0]}, "std above 0"),
        (pixels(4, 6, 6), [0, 1, 0, 1], {"mean": [0.5, 0.5, 0.5]}, "need 1 values"),
    ],
)
def test_arrays_that_do_not_fit_together_are_a_bad_request(
    x: Any, y: Any, options: Any, message: str
) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        Data.from_arrays(x, y, **options)
    assert "\n" not in str(caught.value)


def test_mean_and_deviation_by_hand() -> None:
    x = np.zeros((2, 1, 2, 3), np.uint8)
    x[..., 0] = [[[0, 255]], [[0, 255]]]  # mean 1/2, deviation 1/2
    x[..., 1] = 51  # constant
    x[..., 2] = [[[0, 0]], [[0, 102]]]  # 0.4 once in four: mean 0.1, variance 0.04 - 0.01
    assert statistics(x) == ((0.5, 0.2, 0.1), (0.5, 1.0, 0.1732))


@given(st.integers(1, 9), st.integers(0, 9))
def test_statistics_do_not_depend_on_the_parts(n: int, cut: int) -> None:
    x = pixels(n, 3, 2, 3)
    parts = Moments()
    for part in (x[: min(cut, n)], x[min(cut, n) :]):
        if len(part):
            parts.add(part)
    assert parts.statistics() == statistics(x)
    assert statistics(x)[0] == pytest.approx((x / 255).mean(axis=(0, 1, 2)), abs=1e-4)
    assert statistics(x)[1] == pytest.approx((x / 255).std(axis=(0, 1, 2)), abs=1e-4)


def test_statistics_of_bright_images_do_not_overflow() -> None:
    assert statistics(np.full((3000, 8, 8, 1), 255, np.uint8)) == ((1.0,), (1.0,))


def test_the_fingerprint_tells_pixels_labels_and_names_apart() -> None:
    x, y = pixels(4, 6, 6), [0, 1, 0, 1]
    other = x.copy()
    other[3, 5, 5] ^= 1
    prints = [
        Data.from_arrays(x, y).fingerprint,
        Data.from_arrays(other, y).fingerprint,
        Data.from_arrays(x, [0, 1, 1, 0]).fingerprint,
        Data.from_arrays(x, y, class_names=["a", "b"]).fingerprint,
        Data.from_arrays(x, y, test=(x, y)).fingerprint,
        Data.from_arrays(x.reshape(4, 4, 9), y).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert Data.from_arrays(x.copy(), y, name="another").fingerprint == prints[0]


@given(st.integers(1, 500), st.integers(1, 600))
def test_evenly_spaced_positions_are_distinct_and_begin_with_the_first(available: int, wanted: int) -> None:
    chosen = evenly(available, wanted).tolist()
    assert len(set(chosen)) == len(chosen) == min(available, wanted)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert chosen[-1] < available
    gaps = np.diff([*chosen, available])
    assert gaps.max() - gaps.min() <= 1


@given(classes=st.integers(4, 300))
def test_two_halves_are_all_classes_and_the_first_has_the_odd_one(classes: int) -> None:
    tune, evaluate = (half_of_classes(classes, half).tolist() for half in ("tune", "evaluate"))
    assert sorted(tune + evaluate) == list(range(classes))
    assert len(tune) - len(evaluate) == classes % 2
    assert tune == sorted(tune)
    assert tune == half_of_classes(classes, "tune").tolist()


def test_the_halves_are_fixed_for_good() -> None:
    # A changed draw would set old runs beside new ones with other classes.
    assert half_of_classes(10, "tune").tolist() == TUNE
    assert half_of_classes(10, "evaluate").tolist() == [c for c in range(10) if c not in TUNE]


def test_a_half_is_the_same_whatever_the_data_set() -> None:
    for name in ("digits", "synthetic"):
        whole, half = load(name), load(DataSpec(name, half="tune"))
        assert half.class_names == tuple(whole.class_names[c] for c in TUNE)
        assert (half.mean, half.std, half.recipe) == (whole.mean, whole.std, whole.recipe)


@pytest.mark.parametrize("classes", [1, 3])
def test_too_few_classes_have_no_halves(classes: int) -> None:
    with pytest.raises(
        BadRequest, match=f"at least 4 classes, two a half, and there are {classes}: "
    ) as caught:
        load(DataSpec("digits", classes=classes, half="evaluate"))
    assert "\n" not in str(caught.value)


def test_digits_hold_out_the_last_fifth_of_each_class() -> None:
    from sklearn.datasets import load_digits

    data, bunch = load("digits"), load_digits()
    assert data.shape == (1, 8, 8)
    assert data.test is not None
    assert len(data.train) + len(data.test) == 1797
    for label in range(10):
        rows = np.flatnonzero(bunch.target == label)
        held = len(rows) // 5
        assert (data.test.y == label).sum() == held
        assert (data.train.y == label).sum() == len(rows) - held
        last = np.rint(bunch.images[rows[-1]] * 255 / 16).astype(np.uint8)
        assert np.array_equal(data.test.x[data.test.y == label][-1, :, :, 0], last)
    assert data.train.x.max() == 255
    assert data.augment == Augment(crop=1, flip=False)
    assert (data.net, data.recipe) == ("convnet-small", {"epochs": 10, "batch": 64, "lr": 0.05})


def test_synthetic_classes_stay_the_same_when_there_are_more_of_them() -> None:
    few = load(DataSpec("synthetic", classes=3, per_class=5))
    many = load(DataSpec("synthetic", classes=30, per_class=9))
    for label in range(3):
        assert np.array_equal(few.train.x[few.train.y == label], many.train.x[many.train.y == label][:5])
    assert few.shape == (3, 8, 8)
    assert load(DataSpec("synthetic", size=5)).shape == (3, 5, 5)


def test_synthetic_classes_can_be_learnt_and_are_not_trivial() -> None:
    data = load("synthetic")
    assert data.test is not None
    train, test = data.train.x / 255, data.test.x / 255
    means = np.stack([train[data.train.y == c].mean(axis=0) for c in range(10)])
    answers = ((test[:, None] - means) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert (answers == data.test.y).mean() > 0.8
    one_pixel = ((test[:, None, 0, 0] - means[:, 0, 0]) ** 2).sum(axis=2).argmin(axis=1)
    assert (one_pixel == data.test.y).mean() < 0.6


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module `own_loaders`, to be filled with functions."""
    module = types.ModuleType("own_loaders")
    monkeypatch.setitem(__import__("sys").modules, "own_loaders", module)
    return module


def test_a_function_of_ones_own_gets_the_root_and_may_return_arrays(own: Any) -> None:
    roots = []

    def make(root: str | None) -> Any:
        roots.append(root)
        return (pixels(8, 6, 6, 3), np.arange(8) % 4), (pixels(4, 6, 6, 3), np.arange(4))

    own.make = make
    data = load(DataSpec("own_loaders:make", root="/somewhere"))
    assert roots == ["/somewhere"]
    assert data.name == "own_loaders"
    assert data.num_classes == 4
    assert data.test is not None
    cut = load(DataSpec("own_loaders:make", classes=2, per_class=1, size=4))
    assert np.array_equal(cut.train.y, [0, 1])
    assert cut.shape == (3, 4, 4)
    assert cut.test is not None
    assert cut.test.y.tolist() == [0, 1]
    assert (cut.mean, cut.std) == statistics(cut.train.x)


def test_a_function_of_ones_own_may_return_data_or_no_test_split(own: Any) -> None:
    ready = Data.from_arrays(pixels(4, 6, 6), [0, 1, 0, 1], mean=[0.25], std=[0.5])
    own.ready = lambda: ready
    own.without = lambda root: ((pixels(4, 6, 6), [0, 1, 0, 1]), None)
    assert load("own_loaders:ready") is ready
    assert load(DataSpec("own_loaders:ready", classes=1)).mean == (0.25,)
    assert load("own_loaders:without").test is None


def test_a_function_of_ones_own_that_returns_something_else_is_a_bad_request(own: Any) -> None:
    own.wrong = lambda root: pixels(4, 6, 6)
    own.number = 3
    with pytest.raises(BadRequest, match=r"must return Data or \(\(x, y\), \(x, y\)\)"):
        load("own_loaders:wrong")
    with pytest.raises(BadRequest, match="must be a function"):
        load("own_loaders:number")
    with pytest.raises(BadRequest, match="cannot load data set"):
        load("own_loaders:absent")


def test_resizing_takes_the_centred_square(own: Any) -> None:
    wide = np.zeros((2, 4, 8, 1), np.uint8)
    wide[:, :, 1:7] = 200
    own.wide = lambda root: Data.from_arrays(wide, [0, 1], augment=Augment(crop=2))
    data = load(DataSpec("own_loaders:wide", size=2))
    assert np.array_equal(data.train.x, np.full((2, 2, 2, 1), 200))
    assert data.augment.crop == 1


def test_images_of_the_wrong_type_are_refused_by_data_itself(tmp_path: Path) -> None:
    right = Data.from_arrays(pixels(4, 6, 6), [0, 1, 0, 1])
    with pytest.raises(BadRequest, match=r"Data\.from_arrays converts"):
        Data("mine", Images(right.train.x, right.train.y.astype(np.int32)), None, ("a", "b"), (0.5,), (0.5,))
