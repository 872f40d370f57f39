"""Intervals against hand numbers."""

from __future__ import annotations

import pytest

from analysis.stats import mean, over_orders, paired


def test_three_values_have_the_t_interval_of_the_textbook():
    # sd 1, n 3: t(0.975, 2) = 4.302653, half = 4.302653 / sqrt(3)
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.half == pytest.approx(2.484138, abs=1e-6)
    assert found.n == 3


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert (mean([0.5]).value, mean([0.5]).half, mean([0.5]).n) == (0.5, None, 1)
    assert (mean([]).value, mean([None, float("nan")]).n) == (None, 0)


def test_seeds_of_a_class_order_count_once():
    found = over_orders([("natural", 0.2), ("natural", 0.4), ("seed:1", 0.5)])
    assert found.value == pytest.approx(0.4)
    assert found.n == 2
    assert over_orders([("natural", 0.2), ("natural", 0.4)]).half is None


def test_a_paired_difference_uses_only_the_orders_of_both():
    a = [("natural", 0.9), ("seed:1", 0.5), ("seed:2", 0.1)]
    b = [("natural", 0.8), ("seed:1", 0.4)]
    found = paired(a, b)
    assert found.value == pytest.approx(0.1)
    assert found.half == pytest.approx(0.0, abs=1e-12)
    assert found.n == 2


def test_a_mean_reads_as_a_sentence_part():
    assert str(mean([0.5])) == "0.500 (n = 1)"
    assert str(mean([])) == "–"
    assert "±" in str(mean([0.5, 0.6]))
