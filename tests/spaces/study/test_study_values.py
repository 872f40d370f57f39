"""Values in study files and in overrides: numbers, texts and digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.yaml_text import read_yaml, write_yaml
from spaces.resolved.resolve import resolve
from spaces.study.study_file import load_study
from tests.spaces.study.small_study import study


@pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "+5E-4", "0.0005", ".0005", "5.e-4"])
def test_numbers_in_every_notation_are_numbers(text: str) -> None:
    assert read_yaml(text, "text") == 5e-4


@pytest.mark.parametrize("text", ["1:30", "1_000", "0b11", "yes", ".inf"])
def test_what_is_no_number_of_yaml_1_2_is_refused_as_one(text: str, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: digits\nscenarios: [B0-5tasks]\nmethods: [lwf]\nrecipe: {{epochs: {text}}}\n")
    with pytest.raises(BadRequest, match="epochs") as caught:
        resolve(load_study(path), data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["67e0abb0d558726f2a20", "12e45678901234567890", "1e5", "0123", "1_000", ""])
def test_a_digest_that_looks_like_a_number_comes_back_as_text(text: str) -> None:
    assert read_yaml(write_yaml({"identity": text}), "text") == {"identity": text}


@given(st.text("0123456789abcdef", min_size=1, max_size=20))
def test_every_digest_comes_back_as_text(text: str) -> None:
    assert read_yaml(write_yaml([text]), "text") == [text]


@pytest.mark.parametrize("text", ["e5", "5e", "2024-01-01", "abc", "67e0abb0d558726f2a20"])
def test_words_stay_words(text: str) -> None:
    assert read_yaml(text, "text") == text


@pytest.mark.parametrize(
    ("override", "where", "value"),
    [
        ("search.trials=3", ("search", "trials"), 3),
        ("data.per_class=50", ("data", "per_class"), 50),
        ("methods.lwf.kd_weight=3", ("methods", "lwf", "kd_weight"), 3),
        ("methods.lwf.kd_weight={float: [1, 2]}", ("methods", "lwf", "kd_weight"), {"float": [1, 2]}),
        ("recipe.increment.lr=5e-4", ("recipe", "increment", "lr"), 5e-4),
        ("methods=[bic]", ("methods",), {"bic": {"method": "bic"}}),
        ("resources.gpu=null", ("resources", "gpu"), None),
    ],
)
def test_an_override_sets_one_value(override: str, where: tuple[str, ...], value: Any) -> None:
    at: Any = study(override).to_plain()
    for key in where:
        at = at[key]
    assert at == value


def test_an_override_reaches_a_label_with_dots_in_it() -> None:
    plain = study("methods.lwf-0.5.kd_weight=3", methods={"lwf-0.5": {"method": "lwf", "kd_weight": 0.5}})
    assert plain.methods["lwf-0.5"].hp == {"kd_weight": 3}


@pytest.mark.parametrize("override", ["search.trials", "=3", "a..b=1", "study.x=1", "search.trials=[1"])
def test_an_override_that_sets_nothing_is_refused(override: str) -> None:
    with pytest.raises(BadRequest, match="--set"):
        study(override)
