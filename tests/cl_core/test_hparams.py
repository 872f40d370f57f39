"""Hyperparameters: domains, branches, plain values and digests."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Factors, Float, Fractions, Int, digest, from_dict, hp, hparams, to_dict


@dataclass(frozen=True)
class Parent:
    kept: int = hp(3, Int(1, 9), at_boundary=True, doc="kept images")


@dataclass(frozen=True)
class Child(Parent):
    ACTS_FROM = {"kept": 0}

    weight: float = hp(0.25, Float(0.02, 8, log=True), doc="of the loss")
    loss: str = hp("ce", Choice("ce", "bce"), acts_from=0, searched=False)
    slope: float = hp(1.0, Float(0, 2), when={"loss": ("bce",)})
    plain: int = 5


def test_metadata_is_read_in_the_order_of_definition() -> None:
    found = hparams(Child)
    assert list(found) == ["kept", "weight", "loss", "slope"]
    assert found["weight"].type is float
    assert (found["weight"].default, found["weight"].acts_from, found["weight"].searched) == (0.25, 1, True)
    assert (found["loss"].acts_from, found["loss"].searched, found["loss"].at_boundary) == (0, False, False)
    assert found["kept"].doc == "kept images"


def test_a_class_may_say_that_an_inherited_hyperparameter_acts_earlier() -> None:
    assert hparams(Parent)["kept"].acts_from == 1
    assert hparams(Child)["kept"].acts_from == 0


def test_a_branch_is_active_under_the_values_that_open_it() -> None:
    slope = hparams(Child)["slope"]
    assert slope.active({"loss": "bce"})
    assert not slope.active({"loss": "ce"})
    assert hparams(Child)["weight"].active({})


@pytest.mark.parametrize(
    ("domain", "value", "result"),
    [
        (Float(0, 1), 1, 1.0),
        (Float(0, 1), 0.5, 0.5),
        (Int(1, 9), 9, 9),
        (Int(1, 9), 4.0, 4),
        (Choice("a", "b"), "b", "b"),
        (Choice(1, 2, 4), 4.0, 4),
        (Choice(True, False), False, False),
        (Fractions(), "0.5,0.75", "0.5,0.75"),
        (Fractions(), [0.5, 0.75], "0.5,0.75"),
        (Fractions(), [], ""),
        (Fractions(), "", ""),
        (Fractions(), [1 / 3], f"{1 / 3!r}"),
        (Factors(), "0.1, 1,3", "0.1,1,3"),
        (Factors(), [3, 0.1], "3,0.1"),
    ],
)
def test_values_in_the_domain_are_taken_in_its_type(domain: Any, value: object, result: object) -> None:
    checked = domain.check("x", value)
    assert checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(
    ("domain", "value", "rule"),
    [
        (Float(0, 1), 1.01, r"x must lie in \[0, 1\], not 1.01"),
        (Float(0, 1), "0.5", "x must be a number"),
        (Float(0, 1), True, "x must be a number"),
        (Float(0, 1), math.nan, "x must be a number"),
        (Float(0, 1), math.inf, "x must be a number"),
        (Int(1, 9), 0, r"x must lie in \[1, 9\], not 0"),
        (Int(1, 9), 2.5, "x must be a whole number"),
        (Int(1, 9), True, "x must be a whole number"),
        (Int(1, 9), None, "x must be a whole number"),
        (Choice("a", "b"), "c", "x must be one of 'a', 'b', not 'c'"),
        (Choice(1, 2), True, "x must be one of 1, 2, not True"),
        (Choice(True, False), 1, "x must be one of True, False, not 1"),
        (Fractions(), [0.75, 0.5], "increasing"),
        (Fractions(), [0.5, 0.5], "increasing"),
        (Fractions(), [0, 0.5], "must be increasing fractions"),
        (Fractions(), [1.0], "must be increasing fractions"),
        (Fractions(), "a,b", "must be increasing fractions"),
        (Fractions(), 3, "must be increasing fractions"),
        (Factors(), "", "different positive numbers"),
        (Factors(), [1, 1], "different positive numbers"),
        (Factors(), "0,1", "different positive numbers"),
        (Factors(), [float("nan")], "different positive numbers"),
        (Factors(), None, "different positive numbers"),
    ],
)
def test_values_outside_are_refused_in_one_line(domain: Any, value: object, rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as caught:
        domain.check("x", value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), unique=True))
def test_checking_fractions_twice_changes_nothing_and_loses_no_digit(numbers: list[float]) -> None:
    once = Fractions().check("m", sorted(numbers))
    assert Fractions().check("m", once) == once
    assert [float(p) for p in once.split(",") if p] == sorted(numbers)


def test_from_dict_and_to_dict_are_inverse() -> None:
    made = from_dict(Child, {"kept": 7.0, "weight": 1, "loss": "bce"})
    assert made == Child(kept=7, weight=1.0, loss="bce")
    assert to_dict(made) == {"kept": 7, "weight": 1.0, "loss": "bce", "slope": 1.0}
    assert from_dict(Child, to_dict(made)) == made
    assert from_dict(Child, json.loads(json.dumps(to_dict(made)))) == made


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        BadRequest, match="unknown hyperparameter of lwf 'wieght': did you mean 'weight'\\? \\(known: kept"
    ):
        from_dict(Child, {"wieght": 1}, "hyperparameter of lwf")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()),
    )
)
def test_a_digest_does_not_depend_on_the_order_of_keys(values: dict[str, Any]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))
    assert digest(values) != digest({**values, "one more key": 0})


def test_a_digest_is_the_same_in_every_process() -> None:
    told = "from cl_core.hparams import digest; print(digest({'a': [1, 0.5, 'x'], 'b': None}))"
    printed = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == digest({"b": None, "a": [1, 0.5, "x"]})
    assert len(printed.strip()) == 20


def test_a_digest_refuses_what_json_cannot_say_exactly() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": math.nan})
    with pytest.raises(TypeError):
        digest({"a": object()})


def test_stability_needs_an_interval() -> None:
    assert hp(0.5, Float(0, 1), stability=True).metadata["hp"]["stability"] is True
    with pytest.raises(TypeError, match="needs an interval"):
        hp("a", Choice("a", "b"), stability=True)
