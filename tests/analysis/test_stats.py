"""Intervals and verdicts against hand numbers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.stats import SMALLEST, holm, mean, outcomes, over_orders, paired, reading, together, verdicts


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


def test_holm_is_the_textbooks():
    # 0.01 x 3, then 0.03 x 2, then 0.04 x 1 but not below the one before
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_p_value_of_a_claim_by_hand():
    # mean 0.05, standard error 0.01 / sqrt(3), so (0.05 - 0.005) / 0.0057735 = 7.794229 with 2 degrees of
    # freedom, whose upper tail is 1/2 - t / (2 sqrt(2 + t^2)) = 0.008032
    found = outcomes([0.04, 0.05, 0.06])
    assert found["holds"] == pytest.approx(2 * 0.0080323, abs=1e-6)
    assert found["contradicted"] > 0.99
    assert found["equivalent"] > 0.97
    assert outcomes([0.04, 0.05, 0.06], claimed=0.02)["holds"] == pytest.approx(0.0351, abs=1e-4)


def test_a_verdict_is_undecided_with_fewer_than_two_orders():
    for values in ([], [0.4], [0.4, float("nan")]):
        assert reading(outcomes(values)) == "undecided"


def test_differences_that_are_all_equal_decide_by_the_bounds_alone():
    assert reading(outcomes([0.006, 0.006])) == "holds"
    assert reading(outcomes([-0.006, -0.006])) == "contradicted"
    assert reading(outcomes([0.0, 0.0])) == "equivalent"
    assert reading(outcomes([0.005, 0.005])) == "undecided"  # neither inside nor beyond


DIFFERENCES = st.lists(st.floats(-1, 1, allow_nan=False), min_size=2, max_size=12)


@given(DIFFERENCES)
def test_the_verdict_is_what_the_plain_interval_shows(values):
    centre = mean(values)
    low, high = centre.value - centre.half, centre.value + centre.half
    edges = [abs(edge - bound) for edge in (low, high) for bound in (SMALLEST, -SMALLEST)]
    assume(min(edges) > 1e-9)
    expected = "undecided"
    if low > SMALLEST:
        expected = "holds"
    elif high < -SMALLEST:
        expected = "contradicted"
    elif low > -SMALLEST and high < SMALLEST:
        expected = "equivalent"
    assert reading(outcomes(values)) == expected


@given(st.lists(DIFFERENCES, min_size=1, max_size=6))
def test_verdicts_are_antisymmetric(family):
    forward = verdicts([outcomes(values) for values in family])
    backward = verdicts([outcomes([-v for v in values]) for values in family])
    mirror = {"holds": "contradicted", "contradicted": "holds"}
    for a, b in zip(forward, backward, strict=True):
        assert b.name == mirror.get(a.name, a.name)
        assert b.p == pytest.approx(a.p)


@given(st.lists(DIFFERENCES, min_size=1, max_size=6))
def test_more_claims_decide_no_more(family):
    claims = [outcomes(values) for values in family]
    for alone, corrected in zip(map(reading, claims), verdicts(claims), strict=True):
        assert corrected.name in (alone, "undecided")


def test_a_claim_about_all_needs_all_and_falls_with_one():
    yes, no, nil = outcomes([0.05, 0.051]), outcomes([-0.05, -0.051]), outcomes([0.0, 0.00001])
    open_ = outcomes([0.0, 0.1])
    assert reading(together([yes, yes])) == "holds"
    assert reading(together([yes, no])) == "contradicted"
    assert reading(together([yes, nil])) == "equivalent"
    assert reading(together([yes, open_])) == "undecided"
    assert reading(together([yes, yes, no], needed=2)) == "holds"
    assert reading(together([yes, no, no], needed=2)) == "contradicted"
    with pytest.raises(ValueError, match="at least one contrast"):
        together([])


def test_a_counter_example_is_corrected_for_the_search_for_it():
    # each alone has p = 0.03: one of two is not enough, since either could have been it
    weak = {"contradicted": 0.03, "holds": 1.0, "equivalent": 1.0}
    strong = {"contradicted": 1.0, "holds": 0.03, "equivalent": 1.0}
    assert together([weak, strong])["contradicted"] == pytest.approx(0.06)
    assert together([strong, strong])["holds"] == pytest.approx(0.03)
