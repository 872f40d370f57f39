"""Plain values in YAML 1.2: what is a number, what is a text, and that what is written is read."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.yaml_text import read_value, read_yaml, write_yaml

NUMBERS = {
    "1e-3": 0.001, "5e-4": 0.0005, "1E3": 1000.0, "+.5": 0.5, "-1.": -1.0, "010": 10, "-007": -7, "0o17": 15,
    "0x1F": 31, "+12": 12, "0": 0, "08": 8, ".inf": math.inf, "-.INF": -math.inf,
}  # fmt: skip
TEXTS = [
    "1:30", "12:30:45", "1_000", "0b11", "1e", "e5", "yes", "no", "on", "off", "y", "n", "Yes", "ON", "nil",
    "2024-01-01", "67e0abb0d558726f2a20", "1,5", "1.2.3", "-", "=", "+", "0o8", "tRUE", "inf", "nan", "1e-3x",
]  # fmt: skip
OTHERS = {"true": True, "True": True, "FALSE": False, "null": None, "~": None, "": None}


@pytest.mark.parametrize("text", [*NUMBERS, *TEXTS, *OTHERS])
@pytest.mark.parametrize("read", [read_value, lambda text, source: read_yaml(f"a: {text}\n", source)["a"]])
def test_plain_scalars_are_those_of_the_core_schema(read: Any, text: str) -> None:
    if text == "-" and read is not read_value:
        pytest.skip("begins a list there")
    wanted = {**NUMBERS, **OTHERS}.get(text, text)
    value = read(text, "text")
    assert (type(value), value) == (type(wanted), wanted)


def test_no_number_is_a_number() -> None:
    assert math.isnan(read_yaml(".nan", "text"))


@pytest.mark.parametrize("key", ["on", "off", "yes", "no", "y", "n", "1:30"])
def test_a_key_that_is_a_word_stays_one(key: str) -> None:
    assert read_yaml(f"{key}: 1", "text") == {key: 1}


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: 1\n'a': 2", "1: a\n01: b", "{true: 1, True: 2}"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"text, line \d: the key .* occurs twice in one mapping"):
        read_yaml(text, "text")


def test_merge_keys_stay() -> None:
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "text")["b"] == {"x": 1, "y": 3}
    deep = read_yaml("a: &a {x: 1, y: 2}\nb: {c: &c {<<: *a, y: 3}}\nd: {<<: *c}", "text")
    assert deep["b"]["c"] == deep["d"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    "text", ["!!bool perhaps", "!!timestamp perhaps", "!!int one", "!!float one", "<<", "{!!set : 1}"]
)
def test_a_tag_that_does_not_fit_its_value_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^text.*is it valid YAML\?$"):
        read_yaml(f"a: {text}", "text")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a #1 b", "a #1 b"),
        ("x: y", "x: y"),
        ("*star", "*star"),
        ("@at", "@at"),
        ("- a", "- a"),
        ("<<", "<<"),
        (" padded ", "padded"),
        ("'a #1 b'", "a #1 b"),
        ('"1e-3"', "1e-3"),
        ("[1, 1e-3, on]", [1, 0.001, "on"]),
        ("{float: [0.1, 2], log: true}", {"float": [0.1, 2], "log": True}),
    ],
)
def test_a_value_of_the_command_line_is_one_plain_scalar_unless_it_is_bracketed_or_quoted(
    text: str, value: Any
) -> None:
    assert read_value(text, "--set a") == value


@pytest.mark.parametrize("text", ["[1", "{a: 1, a: 2}", "'a", "1" * 5000])
def test_a_value_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^--set a") as caught:
        read_value(text, "--set a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_a_value_that_is_nested_without_end_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^text: values must be nested less than 1000 deep"):
        read_yaml(text, "text")


_TEXT = st.one_of(
    st.sampled_from(
        [*NUMBERS, *TEXTS, *OTHERS, "<<", "# no", "a: b", "a #b", " a", "'", "- a", "%", "\t", "\x85"]
    ),
    st.text("0123456789abcdefx_:.+-eE", max_size=12),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
_SCALAR = st.one_of(_TEXT, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
_VALUE = st.recursive(
    _SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@example("\x85")
@given(_VALUE)
def test_what_is_written_is_read_by_readers_of_both_versions(value: Any) -> None:
    text = write_yaml(value)
    for read in (read_yaml(text, "text"), yaml.safe_load(text)):
        assert repr(read) == repr(value)
