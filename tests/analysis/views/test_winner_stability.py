"""The view of the winner's stability, and its redraws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from analysis.selection.selection import cells
from analysis.statistics.redraws import by_draw, by_noise, by_order
from tests.analysis.planted import Plan, write
from tests.analysis.planted_search import search


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 2))
def test_redraws_of_trials_are_exact(values, incomplete):
    every = [*values, *[-1.0] * incomplete]
    best = [max(one) for one in itertools.product(every, repeat=len(every))]
    best = [v for v in best if v >= 0]
    found = by_draw(np.array(values), len(every), margin=0.25)
    assert found.loss == pytest.approx(np.mean([max(values) - v for v in best]), abs=1e-9)
    assert found.worse == pytest.approx(np.mean([max(values) - v > 0.25 for v in best]), abs=1e-9)


def test_a_draw_alone_changes_the_winner_of_many_in_a_third_of_cases():
    found = by_draw(np.arange(1000.0), 1000, margin=0.5)
    assert found.another == pytest.approx(math.exp(-1), abs=1e-3)
    assert found.worse == pytest.approx(found.another)


def test_noise_of_two_trials_changes_the_winner_as_often_as_the_normal_law_says():
    draw = np.random.default_rng(0)
    found = by_noise(np.array([0.6, 0.5]), np.array([0.1, 0.1]), 0.05, draw, 40_000)
    beaten = 0.5 * math.erfc(0.1 / math.sqrt(0.02) / math.sqrt(2))  # P(N(0.1, 0.02) < 0)
    assert found.another == pytest.approx(beaten, abs=0.01)
    assert found.worse == pytest.approx(found.another)
    assert found.loss == pytest.approx(0.1 * beaten, abs=0.002)
    assert by_noise(np.array([0.6, 0.5]), np.zeros(2), 0.05, draw, 10).another == 0


def test_class_orders_are_redrawn_for_all_trials_alike():
    groups = np.array([[0.9, 0.1], [0.8, 0.0]])  # orders differ much, the lead is the same on each
    draw = np.random.default_rng(0)
    assert by_order(groups, False, 0.005, draw, 500).another == 0
    swapped = np.array([[0.9, 0.1], [0.0, 0.8]])  # the first leads on one order, and by 0.1 in the mean
    assert by_order(swapped, False, 0.005, draw, 4000).another == pytest.approx(0.25, abs=0.03)


def test_the_winner_section_counts_the_trials_within_one_standard_error(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=4, orders=3)
    results = open_results(write(tmp_path / "run", plan))
    (row,) = VIEWS["winner_stability"](results).table.to_dict("records")
    (cell,) = cells(results)
    values = cell.ranking["objective"]
    assert row["trial"] == cell.selected_trial
    assert row["rows: SE"] > 0
    assert row["rows: within one SE"] == (values >= values[0] - row["rows: SE"]).sum()
    best = cell.selected["objective"]
    assert row["orders: SE"] == pytest.approx(max(best.std(ddof=1) / math.sqrt(3), row["rows: SE"]))
    assert 0 <= row["orders: another wins"] <= 1


def test_a_choice_by_test_rows_is_redrawn_on_test_rows(tmp_path):
    scenarios = (("B0-2tasks", (2, 2)),)
    folder = write(tmp_path / "run", Plan(labels=("lwf",), scenarios=scenarios, trials=3, splits=("test",)))
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    assert "rows: SE" not in VIEWS["winner_stability"](open_results(folder)).table
    study["protocol"]["select_on"] = "oracle-test"
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    assert VIEWS["winner_stability"](open_results(folder)).table["rows: SE"].iloc[0] > 0
    assert "(max) on test rows" in VIEWS["hyperparameters"](open_results(folder)).text


def test_a_cost_has_no_validation_rows(tmp_path):
    points = [{"objective": v} for v in (3.0, 2.0)]
    folder = search(tmp_path / "run", points, None, search={"objective": {"kept_bytes": "min"}})
    frame = VIEWS["winner_stability"](open_results(folder)).table
    assert not [c for c in frame.columns if c.startswith(("rows", "orders"))]
    assert frame["trial"].iloc[0] == 1
    assert frame["draw: another wins"].iloc[0] == pytest.approx(0.25)
