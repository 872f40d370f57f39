"""Error rates, coverage and power of the analysis, on lakes whose truth is known.

At the level of 5 %, 10 of 200 lakes are expected and 3.1 is their standard deviation.
"""

from __future__ import annotations

import numpy as np
import pytest

from analysis import compare
from analysis.statistics.intervals import studentized_tail
from tests.analysis.chance_lakes import ROWS, lake
from tests.benchmarks.levels import BUDGETS, ORDERS, claims, importance, searched

MOST = 17 / 200  # 2.3 standard deviations above the level
COVERED = 0.93


def test_two_searches_of_equal_trials_differ_by_no_more_than_their_luck_by_hand() -> None:
    """The best of two trials has one row of 143 more on each of three class orders, and counts err."""
    one = np.array([[[100, 100, 100]]])
    two = np.array([[[101, 101, 101], [90, 90, 90]]])
    (alone,) = compare(lake(one, 0), lake(two[:, :1], 0), "last_accuracy").cells
    (best,) = compare(lake(one, 0), lake(two, 0), "last_accuracy").cells
    assert (alone.among, best.among) == (1, 2)
    assert best.difference.value == alone.difference.value == pytest.approx(1 / ROWS)
    assert alone.p is not None
    assert best.p is not None
    # Both orders agree, so the counts alone decide: P(one of two > z) = 1 - (1 - P(> z))^2.
    assert best.p == pytest.approx(min(1.0, 2 * (1 - (1 - alone.p / 2) ** 2)))
    assert studentized_tail(2.0, 4, 1) < studentized_tail(2.0, 4, 2) < 2 * studentized_tail(2.0, 4, 1)


@pytest.mark.parametrize("budgets", BUDGETS[:2], ids=str)
def test_few_lakes_of_one_method_against_itself_have_no_false_claim(budgets: tuple[int, int]) -> None:
    assert searched(3, budgets, 0.0, lakes=20)["false"] <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 1.5])
@pytest.mark.parametrize("budgets", BUDGETS, ids=str)
@pytest.mark.parametrize("orders", ORDERS)
def test_compare_holds_its_level_between_searches_of_one_method(
    orders: int, budgets: tuple[int, int], apart: float
) -> None:
    figures = searched(orders, budgets, apart)
    assert figures["false"] <= MOST
    assert figures["covered"] >= COVERED


@pytest.mark.slow
@pytest.mark.parametrize("orders", ORDERS)
def test_verdicts_on_claims_hold_their_level_and_find_planted_differences(orders: int) -> None:
    figures = claims(orders)
    assert figures["false"] <= MOST
    assert figures["covered"] >= COVERED
    assert figures["power"] >= {3: 0.25, 5: 0.35, 10: 0.5}[orders]


@pytest.mark.slow
@pytest.mark.parametrize("orders", ORDERS)
def test_importance_is_above_its_mark_in_one_of_twenty_empty_cells(orders: int) -> None:
    figures = importance(orders)
    assert figures["false"] <= MOST
    assert figures["power"] >= {3: 0.2, 5: 0.3, 10: 0.4}[orders]
