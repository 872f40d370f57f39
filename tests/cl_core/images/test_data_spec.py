"""The request for a data set: what it refuses, and what it replaces."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from cl_core.errors import BadRequest
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment
from cl_core.images.loading import load


def test_a_spec_survives_plain_values() -> None:
    spec = DataSpec("image-folder", "~/photos", size=64, classes=5, per_class=100, download=True, half="tune")
    assert DataSpec.from_dict(spec.to_dict()) == spec
    assert DataSpec.from_dict("digits") == DataSpec.from_dict({"name": "digits"}) == DataSpec("digits")
    assert DataSpec("digits").to_dict() == {"name": "digits"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("augment", 3),
        ("augment", {"crop": -1}),
        ("augment", {"crop": 1.5}),
        ("augment", {"flip": 2}),
        ("augment", {"brightness": math.nan}),
        ("augment", {"contrast": 1.1}),
        ("augment", {"auto_augment": "cifar"}),
        ("augment", {"cutout": -1}),
        ("mean", "dark"),
        ("mean", [math.nan]),
        ("std", 0.5),
    ],
)
def test_augmentation_and_normalisation_out_of_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=rf"^data\.{key}"):
        DataSpec.from_dict({"name": "digits", key: value})


def test_a_spec_replaces_augmentation_and_normalisation_and_no_pixel() -> None:
    plain = {"augment": {"crop": 1, "brightness": 0.25}, "mean": [0.5], "std": [2.0]}
    spec = DataSpec.from_dict({"name": "digits", **plain})
    assert spec.to_dict() == {
        "name": "digits",
        "augment": dataclasses.asdict(Augment(1, False, 0.25)),
        "mean": [0.5],
        "std": [2.0],
    }
    assert {DataSpec.from_dict(spec.to_dict())} == {spec}
    own, usual = load(spec), load("digits")
    assert (own.augment, own.mean, own.std) == (Augment(1, False, 0.25), (0.5,), (2.0,))
    assert own.fingerprint == usual.fingerprint
    with pytest.raises(BadRequest, match=r"unknown key of data\.augment 'bright'"):
        DataSpec.from_dict({"name": "digits", "augment": {"bright": 0.2}})
    with pytest.raises(BadRequest, match="mean and std need 1 values"):
        load(DataSpec("digits", mean=(0.5, 0.5, 0.5)))


def test_where_the_files_lie_is_no_part_of_a_specs_identity() -> None:
    here, there = (
        DataSpec("cifar10", root="/a", size=16),
        DataSpec("cifar10", root="/b", size=16, download=True),
    )
    assert here.identity() == there.identity() == {"name": "cifar10", "size": 16}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "digits", "per_clas": 3}, "did you mean 'per_class'"),
        ({"size": 3}, "data needs a name"),
        (["digits"], "data needs a name"),
        ({"name": ""}, "data.name must name a data set"),
        ({"name": "digits", "size": 0}, "data.size must lie in"),
        ({"name": "digits", "size": "big"}, "data.size must be a whole number"),
        ({"name": "digits", "classes": -1}, "data.classes must lie in"),
        ({"name": "digits", "per_class": 2.5}, "data.per_class must be a whole number"),
        ({"name": "digits", "root": 3}, "data.root must be a folder"),
        ({"name": "digits", "download": "yes"}, "data.download must be true or false"),
        ({"name": "digits", "half": "test"}, "data.half must be tune or evaluate, not 'test'"),
        ({"name": "digits", "half": 1}, "data.half must be tune or evaluate, not 1"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_a_bad_request(values: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        DataSpec.from_dict(values)


def test_an_unknown_data_set_is_named_with_the_nearest() -> None:
    with pytest.raises(BadRequest, match="did you mean 'cifar100'"):
        load("cifar-100")
