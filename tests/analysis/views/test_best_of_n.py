"""The view of the best of n trials."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.views.best_of_n import expected_best, trajectory
from tests.analysis.planted_search import search


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 3), st.booleans())
def test_the_expected_best_is_the_mean_over_all_draws_without_replacement(values, incomplete, least):
    every = [*values, *[None] * incomplete]
    better = min if least else max
    found = expected_best(np.array(values), len(every), least)
    for n in range(1, len(every) + 1):
        drawn = [[v for v in one if v is not None] for one in itertools.combinations(every, n)]
        assert found[n - 1] == pytest.approx(np.mean([better(one) for one in drawn if one]), abs=1e-9)


def test_the_expected_best_of_many_is_finite_and_rises():
    values = np.random.default_rng(0).random(2000)
    curve = expected_best(values, 2500)
    assert np.isfinite(curve).all()
    assert (np.diff(curve) > -1e-9).all()
    assert curve[-1] == pytest.approx(values.max())


def test_the_search_as_it_went_counts_what_was_stopped_and_the_order_of_ends():
    frame = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "ended": [40.0, 10.0, 30.0, 20.0],
            "seconds": [1.0, 2.0, 4.0, 8.0],
            "objective": [0.9, np.nan, 0.3, 0.5],
        }
    )
    spent, best = trajectory(frame, least=False)
    assert list(spent) == [10.0, 14.0, 15.0]
    assert list(best) == [0.5, 0.5, 0.9]
    assert list(trajectory(frame, least=True)[1]) == [0.5, 0.3, 0.3]


def test_gpu_seconds_of_runs_whose_share_a_probe_finds_are_those_of_a_whole_gpu(tmp_path):
    points = [{"objective": v, "device": "cuda:0"} for v in (0.2, 0.4, 0.3)]
    for resources in ({"gpu": "auto"}, {"gpu": 1, "together": "auto"}):
        folder = search(tmp_path / str(len(resources)), points, None, resources=resources)
        section = VIEWS["best_of_n"](open_results(folder))
        assert section.table["GPU-seconds"].iloc[0] == pytest.approx(30)
        assert open_results(folder).study.gpu is None


def test_gpu_seconds_count_the_share_that_a_run_holds(tmp_path):
    points = [{"objective": v, "device": "cuda:0"} for v in (0.2, 0.4, 0.3)]
    folder = search(tmp_path / "run", points, None, resources={"gpu": 0.25})
    frame = VIEWS["best_of_n"](open_results(folder)).table
    assert frame["GPU-seconds"].iloc[0] == pytest.approx(0.25 * 30)
    assert frame["best of 1"].iloc[0] == pytest.approx(0.3)
    assert frame["best of all"].iloc[0] == pytest.approx(0.4)
    assert frame["default"].iloc[0] == pytest.approx(0.2)
    assert frame["n above default"].iloc[0] == 1
