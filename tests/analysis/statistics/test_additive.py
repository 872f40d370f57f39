"""The model that adds levels: hand-computed steps, and what trials cannot tell apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.additive import Additive


def test_a_balanced_design_gives_differences_of_plain_means() -> None:
    # Two by two, twice: means are .30 at low and .45 at high; what is left of each value is +-.02.
    factors = {"buffer": ["low", "low", "high", "high"] * 2, "weight": ["low", "high"] * 4}
    values = [0.22, 0.42, 0.37, 0.57, 0.18, 0.38, 0.33, 0.53]
    model = Additive.fit(factors, values, [0.0] * 8)
    step = model.contrast("buffer", {"low": -1, "high": 1})
    assert step is not None
    assert step.value == pytest.approx(0.15)
    # s^2 = 8 * .02^2 / (8 - 3) = .00064, so s * sqrt(1/4 + 1/4) = .01789, times t(5) = 2.5706.
    assert step.half == pytest.approx(2.5706 * 0.01789, rel=1e-3)
    assert model.level("buffer", "low").value == pytest.approx(0.30)  # type: ignore[union-attr]


def test_a_lopsided_design_takes_the_other_factor_out() -> None:
    # value = .5 + .1 at a high buffer + .2 at a high weight; high buffers mostly have high weights.
    factors = {
        "buffer": ["low", "low", "low", "high", "high"],
        "weight": ["low", "low", "high", "high", "low"],
    }
    model = Additive.fit(factors, [0.5, 0.5, 0.7, 0.8, 0.6], [0.0] * 5)
    steps = [model.contrast(name, {"low": -1, "high": 1}) for name in ("buffer", "weight")]
    assert [step.value for step in steps if step] == pytest.approx([0.1, 0.2])
    # Plain means say .133 and .217.


def test_counts_are_the_floor_of_an_interval() -> None:
    model = Additive.fit({"buffer": ["low", "low", "high", "high"]}, [0.5, 0.5, 0.6, 0.6], [0.0004] * 4)
    step = model.contrast("buffer", {"low": -1, "high": 1})
    assert step is not None
    # Two means of two values: variance .0002 each; 1.96 * sqrt(.0004).
    assert step.half == pytest.approx(1.96 * 0.02, rel=1e-3)


def test_levels_that_always_come_together_are_not_told_apart() -> None:
    factors = {"buffer": ["low", "high", "low"], "weight": ["low", "high", "low"]}
    model = Additive.fit(factors, [0.1, 0.3, 0.2], [0.0] * 3)
    assert model.contrast("buffer", {"low": -1, "high": 1}) is None
    assert model.level("buffer", "low") is None
    assert model.contrast("buffer", {"low": -1, "medium": 1}) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=4, max_size=20))
def test_values_that_add_up_are_found_whatever_was_tried(tried: list[tuple[str, str]]) -> None:
    steps = {"a": 0.0, "b": 0.3, "x": 0.0, "y": -0.1, "z": 0.2}
    factors = {"one": [a for a, _ in tried], "two": [x for _, x in tried]}
    model = Additive.fit(factors, [0.5 + steps[a] + steps[x] for a, x in tried], [0.0] * len(tried))
    found = model.contrast("two", {"x": -1, "z": 1})
    assert found is None or found.value == pytest.approx(0.2)
