"""The selection gap: hand-computed parts, and parts that sum whatever the numbers are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.selection.selection_gap import FORMULAS, Station, parts, value_of
from analysis.statistics.counting_error import Counted
from tests.analysis.planted import Plan, write

NATURAL, FIRST, SECOND = "natural", "seed:1", "seed:2"


def runs_of(*pairs: tuple[str, float | None]) -> list[tuple[str, Counted]]:
    """Numbers without an error of counts."""
    return [(order, Counted(value)) for order, value in pairs]


def stations() -> list[Station]:
    """Searched on one order with one seed; evaluated over two orders with two seeds each."""
    return [
        Station("", runs_of((NATURAL, 0.70))),
        Station("fresh seeds", runs_of((NATURAL, 0.64), (NATURAL, 0.66))),
        Station("class orders", runs_of((NATURAL, 0.64), (NATURAL, 0.66), (FIRST, 0.60), (FIRST, 0.58))),
        Station("other rows", runs_of((NATURAL, 0.60), (NATURAL, 0.62), (FIRST, 0.57), (FIRST, 0.57))),
        Station("more data", runs_of((NATURAL, 0.63), (NATURAL, 0.65), (FIRST, 0.60), (FIRST, 0.60))),
    ]


def test_the_parts_are_those_computed_by_hand() -> None:
    found = {part.name: part for part in parts(stations())}
    # 0.70 - 0.65; 0.65 - 0.62; 0.62 - 0.59; 0.59 - 0.62
    assert [round(part.value, 10) for part in found.values()] == [0.05, 0.03, 0.03, -0.03]
    assert found["fresh seeds"].half is None  # one class order has no interval
    assert found["class orders"].half is None  # the orders are not the same
    # the differences of the two orders are 0.04 and 0.02: mean 0.03, s = 0.0141, t(1) = 12.706
    assert found["other rows"].half == pytest.approx(12.7062 * 0.01, rel=1e-4)


def test_the_worst_run_counts_where_the_search_counts_it_over_as_many_runs() -> None:
    assert value_of(runs_of((NATURAL, 0.6), (FIRST, 0.4)), "min") == 0.4
    assert value_of(runs_of((NATURAL, 0.6), (FIRST, 0.4)), "max") == 0.6
    values = [part.value for part in parts(stations(), "min")]
    assert [round(value, 10) for value in values] == [0.05, 0.03, 0.03, -0.03]  # of one run: the mean
    three = runs_of((NATURAL, 0.6), (FIRST, 0.3), (SECOND, 0.5))
    assert value_of(three, "min", 2) == pytest.approx((2 * 0.3 + 0.5) / 3)
    assert value_of(three, "max", 2) == pytest.approx((2 * 0.6 + 0.5) / 3)


def test_a_mean_loss_is_said_as_one(tmp_path: Path) -> None:
    """The same change is a gain where greater is better, and a loss where smaller is."""
    said = {}
    for direction in ("max", "min"):
        plan = Plan(labels=("finetune", "lwf"), trials=1, evaluated=True, direction=direction)
        answer = VIEWS["selection_gap"](open_results(write(tmp_path / direction, plan))).answer
        said[direction] = re.search(r" gets (better|worse) by (0\.\d+), mean over 4 cells; the gains", answer)
    assert {found[1] for found in said.values()} == {"better", "worse"}
    assert said["max"][2] == said["min"][2]


accuracy = st.floats(-1, 1)
runs = st.lists(st.tuples(st.sampled_from([NATURAL, FIRST, SECOND]), accuracy), min_size=1, max_size=6)


@given(
    st.lists(runs, min_size=2, max_size=6),
    st.sampled_from(["mean", "min", "max"]),
)
def test_the_parts_sum_to_the_gap(found: list, how: str) -> None:
    names = ["", *FORMULAS][: len(found)]
    made = [Station(name, runs_of(*measured)) for name, measured in zip(names, found, strict=True)]
    first = value_of(runs_of(*found[0]), how)
    last = value_of(runs_of(*found[-1]), how, len(found[0]))
    assert first is not None
    assert last is not None
    assert sum(part.value for part in parts(made, how)) == pytest.approx(first - last, abs=1e-12)


def test_a_station_without_a_value_is_no_gap() -> None:
    with pytest.raises(ValueError, match="needs a run"):
        parts([Station("", runs_of((NATURAL, 0.5))), Station("other rows", runs_of((NATURAL, None)))])
