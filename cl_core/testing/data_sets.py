"""The contracts of a data set of four classes or more."""

from __future__ import annotations

import dataclasses

import numpy as np

from cl_core.contract import contracts_of
from cl_core.images.data_spec import DataSpec
from cl_core.images.loading import half_of_classes, load
from cl_core.nets.network import NETS
from cl_core.recipe import resolve_recipe
from cl_core.testing import small


def its_parts_fit_together(spec: DataSpec) -> None:
    data = load(spec)
    channels, height, width = data.shape
    assert data.train.x.shape == (len(data.train), height, width, channels)
    assert data.train.x.dtype == np.uint8
    assert data.train.y.dtype == np.int64
    assert set(data.train.y.tolist()) == set(range(data.num_classes)), "a class has no training image"
    assert len(data.class_names) == data.num_classes >= 4
    if data.test is not None:
        assert data.test.x.shape[1:] == data.train.x.shape[1:]
    assert len(data.mean) == len(data.std) == channels
    assert all(0 < m < 1 for m in data.mean), f"mean {data.mean}, of x / 255"
    assert all(0 < s <= 1 for s in data.std), f"std {data.std}, of x / 255"
    assert 0 <= data.augment.crop < height
    assert resolve_recipe(data.recipe).epochs >= 1
    assert data.net in NETS, f"its net {data.net!r} is none"


def loading_twice_gives_the_same_data(spec: DataSpec) -> None:
    first, second = load(spec), load(spec)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)
    assert (first.mean, first.std) == (second.mean, second.std)


def pixels_can_be_written_to_without_touching_anybody_else(spec: DataSpec) -> None:
    first = load(spec)
    before = first.train.x[0].copy()
    first.train.x[0] = 255 - before
    assert np.array_equal(load(spec).train.x[0], before)


def fewer_classes_are_the_first_ones(spec: DataSpec) -> None:
    whole, part = load(spec), load(dataclasses.replace(spec, classes=2))
    assert part.class_names == whole.class_names[:2]
    kept = whole.train.y < 2
    assert np.array_equal(part.train.x, whole.train.x[kept])
    assert np.array_equal(part.train.y, whole.train.y[kept])
    if whole.test is not None:
        assert part.test is not None
        assert len(part.test) == int((whole.test.y < 2).sum())
    assert part.fingerprint != whole.fingerprint


def fewer_images_of_a_class_are_training_images(spec: DataSpec) -> None:
    whole, part = load(spec), load(dataclasses.replace(spec, per_class=2))
    assert np.bincount(part.train.y).tolist() == [2] * whole.num_classes
    there = {image.tobytes() for image in whole.train.x}
    assert all(image.tobytes() in there for image in part.train.x)
    assert len(part.test or ()) == len(whole.test or ()), "the test split is cut"
    assert part.fingerprint != whole.fingerprint


def its_halves_share_no_class_and_together_are_the_whole(spec: DataSpec) -> None:
    whole = load(spec)
    tune, evaluate = (load(dataclasses.replace(spec, half=half)) for half in ("tune", "evaluate"))
    assert set(tune.class_names).isdisjoint(evaluate.class_names)
    for half, name in ((tune, "tune"), (evaluate, "evaluate")):
        ids = half_of_classes(whole.num_classes, name)
        assert half.class_names == tuple(whole.class_names[c] for c in ids)
        assert set(half.train.y.tolist()) == set(range(len(ids)))
    for split in ("train", "test"):
        assert small.contents(tune, split) | small.contents(evaluate, split) == small.contents(whole, split)
    assert len(tune.train) + len(evaluate.train) == len(whole.train)
    assert len({whole.fingerprint, tune.fingerprint, evaluate.fingerprint}) == 3


def another_size_gives_squares_of_that_size(spec: DataSpec) -> None:
    data = load(dataclasses.replace(spec, size=12))
    assert data.shape[1:] == (12, 12)
    assert data.test is None or data.test.x.shape[1:3] == (12, 12)


DATA_SET_CONTRACTS = contracts_of(globals())
