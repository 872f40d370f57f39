"""Intervals and verdicts against hand numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.counting_error import Counted, share
from analysis.statistics.intervals import (
    SMALLEST,
    holm,
    mean,
    outcomes,
    p_of_zero,
    reading,
    studentized_tail,
    together,
    too_few,
    verdicts,
)
from analysis.statistics.sample import Sample


def test_three_values_have_the_t_interval_of_the_textbook():
    # sd 1, n 3: t(0.975, 2) = 4.302653, half = 4.302653 / sqrt(3)
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.half == pytest.approx(2.484138, abs=1e-6)
    assert found.n == 3


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert (mean([0.5]).value, mean([0.5]).half, mean([0.5]).n) == (0.5, None, 1)
    assert (mean([]).value, mean([None, float("nan")]).n) == (None, 0)


def sample(*runs, error=0.0):
    """Of (class order, value) pairs, each with the same error of its counts."""
    return Sample.of((order, Counted(value, error)) for order, value in runs)


def test_the_best_of_several_has_the_interval_of_the_largest_of_as_many():
    """P(the largest of 30 normal values < z) = 0.975 at z = Phi^-1(0.975^(1/30))."""
    sidak = stats.norm.isf(1 - 0.975 ** (1 / 30))
    assert mean([0.1, 0.1, 0.1], 0.01, among=30).half == pytest.approx(0.01 * sidak)
    assert p_of_zero([0.1, 0.1, 0.1], 0.1 / sidak, among=30) == pytest.approx(0.05)
    many = [0.0, 1.0] * 5000
    assert mean(many, among=30).half == pytest.approx(sidak * stats.sem(many), rel=1e-3)
    draw = np.random.default_rng(0)
    largest = draw.standard_normal((100_000, 4)).max(axis=1)
    s = np.sqrt(draw.chisquare(2, 100_000) / 2)
    for bound in (0.05, 1.0, 8.0):
        assert studentized_tail(bound, 2, 4) == pytest.approx((largest > bound * s).mean(), abs=0.005)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=6, unique=True), st.integers(1, 40))
def test_the_best_of_more_trials_is_never_surer_and_its_p_value_agrees_with_its_interval(values, among):
    assume(stats.sem(values) > 1e-6)
    one, several = mean(values), mean(values, among=among)
    assert several.half >= one.half * (1 - 1e-9)
    p = p_of_zero(values, among=among)
    if abs(several.half - abs(several.value)) > 1e-6:
        assert (p <= 0.05) == (abs(several.value) > several.half)


def test_seeds_of_a_class_order_count_once():
    found = sample(("natural", 0.2), ("natural", 0.4), ("seed:1", 0.5), ("seed:2", None)).mean
    assert found.value == pytest.approx(0.4)
    assert found.n == 2
    assert sample(("natural", 0.2), ("natural", 0.4)).mean.half is None


def test_a_paired_difference_uses_only_the_orders_of_both():
    a = sample(("natural", 0.9), ("seed:1", 0.5), ("seed:2", 0.1))
    b = sample(("natural", 0.8), ("seed:1", 0.4))
    found = (a - b).mean
    assert found.value == pytest.approx(0.1)
    assert found.half == pytest.approx(0.0, abs=1e-12)  # what is not counted can be exact
    assert found.n == 2


def test_errors_of_counts_add_by_their_variances():
    a = sample(("natural", 0.9), ("natural", 0.7), ("seed:1", 0.5), error=0.03)
    assert a.variances["natural"] == pytest.approx(0.03**2 / 2)  # of two seeds
    b = sample(("natural", 0.8), ("seed:1", 0.4), error=0.04)
    # variances 0.03^2/2 + 0.04^2 and 0.03^2 + 0.04^2, over two orders
    expected = (0.03**2 / 2 + 0.04**2 + 0.03**2 + 0.04**2) ** 0.5 / 2
    assert (a - b).error == pytest.approx(expected)
    assert (2.0 * (a - b)).error == pytest.approx(2 * expected)


def test_one_row_more_in_each_of_three_orders_is_not_certain():
    """The same difference of one row of 143 in three class orders: no spread, and yet hardly a finding."""
    p = [(k + 1) / 145 for k in (130, 131)]
    variance = sum(q * (1 - q) / 143 for q in p)
    a, b = (
        Sample.of((order, Counted(k / 143, (q * (1 - q) / 143) ** 0.5)) for order in "abc")
        for k, q in zip((131, 130), reversed(p), strict=True)
    )
    found = a - b
    assert found.mean.value == pytest.approx(1 / 143)
    assert found.mean.half == pytest.approx(1.959964 * (variance / 3) ** 0.5)
    assert found.mean.half == pytest.approx(0.0389, abs=0.0005)
    assert found.p_of_zero == pytest.approx(0.72, abs=0.01)  # z = 0.00699 / 0.0195
    assert reading(found.outcomes()) == "undecided"


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


def test_nothing_is_decided_by_fewer_than_three_orders():
    for values in ([], [0.4], [0.4, float("nan")], [0.4, 0.4]):
        assert reading(outcomes(values)) == "undecided"
        assert p_of_zero(values) is None
    assert too_few(2) == "too few class orders (n = 2)"
    assert not too_few(3)


def test_exact_differences_that_are_all_equal_decide_by_the_bounds_alone():
    assert reading(outcomes([0.006] * 3)) == "holds"
    assert reading(outcomes([-0.006] * 3)) == "contradicted"
    assert reading(outcomes([0.0] * 3)) == "equivalent"
    assert reading(outcomes([0.005] * 3)) == "undecided"  # neither inside nor beyond


def test_intervals_and_p_values_are_those_of_scipy_s_test_of_one_sample():
    values = np.random.default_rng(0).normal(0.01, 0.02, 7)
    found = stats.ttest_1samp(values, 0.0)
    assert p_of_zero(values) == pytest.approx(found.pvalue, rel=1e-12)
    low, high = found.confidence_interval(0.95)
    assert mean(values).half == pytest.approx((high - low) / 2, rel=1e-12)
    above = stats.ttest_1samp(values, SMALLEST, alternative="greater").pvalue
    assert outcomes(values)["holds"] == pytest.approx(min(1.0, 2 * above), rel=1e-12)


def test_the_p_value_is_the_larger_of_student_s_and_that_of_the_counts():
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 with 2 degrees of freedom
    assert p_of_zero([1.0, 2.0, 3.0]) == pytest.approx(0.07418, abs=1e-5)
    # z = 2 / 2: the counts alone give 0.3173
    assert p_of_zero([1.0, 2.0, 3.0], error=2.0) == pytest.approx(0.31731, abs=1e-5)
    assert p_of_zero([2.0, 2.0, 2.0], error=1.0) == pytest.approx(0.04550, abs=1e-5)
    assert p_of_zero([0.5] * 3) == 0.0
    assert p_of_zero([0.0] * 3) == 1.0


DIFFERENCES = st.lists(st.floats(-1, 1, allow_nan=False), min_size=3, max_size=12)
ERRORS = st.floats(0, 0.1)


@given(DIFFERENCES, ERRORS)
def test_the_verdict_is_what_the_plain_interval_shows(values, error):
    centre = mean(values, error)
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
    assert reading(outcomes(values, error=error)) == expected


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
    yes, no, nil = (
        outcomes([0.05, 0.051, 0.052]),
        outcomes([-0.05, -0.051, -0.052]),
        outcomes([0.0, 0.00001, 0.0]),
    )
    open_ = outcomes([0.0, 0.1, 0.05])
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


def test_the_test_holds_its_level_for_counts_of_equal_methods_and_keeps_its_power():
    """Ten cells of two equal methods, 143 rows, three and five class orders; then one is ten points better.

    Student's t alone finds a difference between equal methods in 5 % to 22 % of such studies, more where both
    answer most rows alike.
    """
    draw = np.random.default_rng(0)

    def difference(rows, orders, right, worse, alike):
        base = draw.random((orders, rows))
        other = np.where(draw.random((orders, rows)) < alike, base, draw.random((orders, rows)))
        a, b = (base < right).sum(axis=1), (other < right - worse).sum(axis=1)
        pairs = ([(k, Counted(n / rows, share(n / rows, rows))) for k, n in enumerate(s)] for s in (a, b))
        one, two = map(Sample.of, pairs)
        return one - two

    for orders in (3, 5):
        for alike in (0.0, 0.9):
            false = 0
            for _ in range(200):
                found = [difference(143, orders, 0.9, 0.0, alike).p_of_zero for _ in range(10)]
                false += min(holm(found)) <= 0.05
            assert false <= 14  # 10 expected at the level, with one standard deviation of 3.1
            true = [difference(143, orders, 0.9, 0.1, alike).p_of_zero <= 0.05 for _ in range(200)]
            assert np.mean(true) > {3: 0.5, 5: 0.9}[orders]
