"""Chance alone: equal methods, equal trials and lucky rows, simulated on counts; and planted differences."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import compare
from analysis.statistics.redraws import highest_by_chance, luck_of_rows
from search.cells.stoppers import race_looks
from tests.analysis.chance_lakes import ROWS, lake
from tests.benchmarks.chance import comparison, luck, races, right

CELLS_OF_A_LAKE = 4


def verdicts(lakes: int, orders: int, accuracy: float, spread: float, apart: float = 0.0) -> tuple[int, int]:
    """Lakes with a difference after Holm's correction, and cells whose plain interval has the true one."""
    draw = np.random.default_rng(orders)
    a, b = right(draw, (lakes * CELLS_OF_A_LAKE, orders), ROWS, accuracy, spread, 0.5, apart)
    found = covered = 0
    for index in range(lakes):
        some = slice(index * CELLS_OF_A_LAKE, (index + 1) * CELLS_OF_A_LAKE)
        paired = compare(lake(a[some, None], index), lake(b[some, None], index), "last_accuracy")
        found += any((cell.adjusted or 0.0) <= 0.05 for cell in paired.cells)
        for cell in paired.cells:
            assert cell.difference.value is not None
            assert cell.difference.half is not None
            covered += abs(cell.difference.value + apart) <= cell.difference.half
    return found, covered


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 4.0])
@pytest.mark.parametrize("orders", [3, 5, 10])
def test_compare_finds_nothing_between_equal_methods_beyond_its_level(orders: int, spread: float) -> None:
    """200 lakes of four cells, 143 rows: at the level 10 lakes are expected, 3.1 their standard deviation."""
    found, covered = verdicts(200, orders, 0.9, spread)
    assert found <= 17
    assert covered >= 0.94 * 200 * CELLS_OF_A_LAKE


@pytest.mark.slow
def test_compare_finds_a_planted_difference() -> None:
    """Ten points of .9, four cells, five class orders of 143 rows."""
    found, covered = verdicts(50, 5, 0.9, 0.0, 0.1)
    assert found >= 45
    assert covered >= 0.94 * 50 * CELLS_OF_A_LAKE


@pytest.mark.slow
@pytest.mark.parametrize("orders", [2, 3, 5])
def test_the_larger_p_value_holds_its_level_in_every_setting_and_keeps_the_power(orders: int) -> None:
    """64 settings of counts, 2,000 studies each: the largest of them stays within 2.5 standard errors."""
    figures = comparison(orders)
    assert figures["larger.level"] < 0.054
    assert figures["larger.false_in_family"] < 0.0625
    assert figures["larger.power"] > 0.97 * figures["student.power"]
    if orders < 5:
        assert figures["student.false_in_family"] > 0.1
        assert figures["satterthwaite.false_in_family"] > 0.1
    if orders == 2:  # no verdict: Student's t would find a quarter of the differences of four standard errors
        assert figures["larger.power"] < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("orders", [5, 10])
def test_a_race_stops_no_more_of_equal_trials_than_its_threshold(orders: int) -> None:
    figures = races(orders)
    assert max(value for name, value in figures.items() if name.startswith("wrong")) <= 0.1
    assert figures["uncorrected_wrong_of_500_rows"] > 0.15
    assert figures["right"] > 0.5


def test_the_looks_of_a_race_share_its_threshold() -> None:
    assert list(race_looks(5, 0.1)) == [4]  # 1/16 < 0.1
    assert list(race_looks(6, 0.1)) == [5]  # 1/16 > 0.1 / 2, 1/32 < 0.1
    assert list(race_looks(10, 0.1)) == [6, 7, 8, 9]  # 1/32 > 0.1 / 5, 1/64 < 0.1 / 4
    assert list(race_looks(4, 0.1)) == []


@pytest.mark.slow
@pytest.mark.parametrize("trials", [10, 30])
def test_the_estimated_luck_of_rows_is_that_of_known_accuracies(trials: int) -> None:
    figures = luck(trials)
    for name in ("equal", "apart_by_1", "falling", "equal_seeds", "apart_by_1_seeds"):
        estimated = figures[f"{name}.estimated"]
        assert estimated == pytest.approx(figures[f"{name}.real"], rel=0.2, abs=0.001), name


def test_rows_bring_no_luck_where_one_trial_is_far_ahead() -> None:
    draw = np.random.default_rng(0)
    assert luck_of_rows(np.array([0.9, 0.5, 0.4]), np.full(3, 0.01), draw, 4000) < 0.001
    # Of two equal trials the better one exceeds its mean by SE / sqrt(pi), seen or redrawn.
    again = [luck_of_rows(values, np.ones(2), draw, 1000) for values in draw.standard_normal((400, 2))]
    assert np.mean(again) == pytest.approx(1 / np.sqrt(np.pi), rel=0.1)


@pytest.mark.parametrize("several", [1, 4, 10])
def test_chance_lifts_any_hyperparameter_above_its_bound_in_one_of_twenty_cells(several: int) -> None:
    draw = np.random.default_rng(several)
    scale = np.arange(1, several + 1)
    above = 0
    for _ in range(1000):
        redrawn = scale * draw.chisquare(2, (100, several))
        seen = scale * draw.chisquare(2, several)
        above += bool((seen > highest_by_chance(seen, redrawn)).any())
    assert 33 <= above <= 67  # 5 of 101 draws lie above: 49.5 cases are expected, 6.9 their deviation
