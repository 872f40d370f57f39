"""What a report says of the search itself: importance, edges, best of n, and how firm the winner stands."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.searched_space import spaces
from analysis.report.section import VIEWS
from analysis.selection.selection import cells
from analysis.selection.trials import trials
from analysis.statistics.redraws import by_draw, by_noise, by_order
from analysis.views.best_of_n import expected_best, trajectory
from cl_core.errors import BadRequest
from tests.analysis.planted import Plan, write
from tests.analysis.planted_search import chosen_from, ranged, search

THREE = (ranged("x", 0.0, 1.0), ranged("y", 0.01, 1.0, log=True), chosen_from("z", 1, 2, 4))


def _points(n: int, value, seed: int = 0) -> list[dict]:
    """n random trials of THREE; `value` gives the objective."""
    draw = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        point = {"hp.x": float(draw.random()), "hp.y": float(10 ** -(2 * draw.random()))}
        point["hp.z"] = int(draw.choice([1, 2, 4]))
        out.append({**point, "objective": value(point)})
    return out


# Importance


def test_the_hyperparameter_that_decides_everything_is_named_first(tmp_path):
    points = _points(60, lambda p: -((math.log10(p["hp.y"]) + 1) ** 2))
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    frame = found.table.set_index("hyperparameter")
    assert found.table["hyperparameter"].iloc[0] == "y"
    assert frame.loc["y", "importance"] > 0.8
    assert frame.loc["y", "importance"] > frame.loc["y", "chance"]
    assert frame.loc["y", "first"] == 1.0
    assert (frame.loc[["x", "z"], "importance"] < frame.loc[["x", "z"], "chance"]).all()
    assert frame["importance"].sum() == pytest.approx(1)
    assert (frame["trials"] == 60).all()


def test_values_dealt_out_at_random_stay_below_chance(tmp_path):
    noise = np.random.default_rng(3)
    points = _points(60, lambda p: float(noise.random()))
    frame = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE))).table
    assert (frame["importance"] < frame["chance"]).all()


def test_a_hyperparameter_of_a_branch_is_compared_within_it(tmp_path):
    space = (
        chosen_from("loss", "kl", "none"),
        ranged("weight", 0.0, 1.0, when={"hp.loss": ["kl"]}),
        ranged("rate", 0.0, 1.0),
    )
    draw = np.random.default_rng(1)
    points = []
    for _ in range(80):
        loss = str(draw.choice(["kl", "none"]))
        point = {"hp.loss": loss, "hp.weight": float(draw.random()), "hp.rate": float(draw.random())}
        # The tables hold a weight where it does not act as well; it must not count there.
        value = 1 - abs(point["hp.weight"] - 0.3) if loss == "kl" else 0.2 * point["hp.weight"]
        points.append({**point, "objective": value})
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, space)))
    frame = found.table.set_index("hyperparameter")
    assert found.table["hyperparameter"].iloc[0] == "weight"
    assert frame.loc["weight", "only where"] == "loss = kl"
    assert frame.loc["weight", "trials"] == sum(p["hp.loss"] == "kl" for p in points) < 80
    assert frame.loc["loss", "importance"] > frame.loc["rate", "importance"]
    assert "within the trials of that branch" in found.text


def test_stopped_configurations_count_as_worse_and_failed_ones_not_at_all(tmp_path):
    points = _points(40, lambda p: p["hp.x"])
    for point in points:
        if point["hp.x"] < 0.5:
            point["status"] = "stopped"
            point["objective"] = 5.0  # over fewer tasks: better than any, and worth nothing
    points[0]["status"] = "failed"
    points[0]["objective"] = None
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    assert found.table["hyperparameter"].iloc[0] == "x"
    assert (found.table["trials"] == 39).all()
    assert "Stopped trials count as tried" in found.text


def test_too_few_configurations_give_their_number_and_no_figure(tmp_path):
    points = _points(19, lambda p: p["hp.x"])
    found = VIEWS["importance"](open_results(search(tmp_path / "run", points, THREE)))
    assert found.bare
    assert not found.optional
    assert "needs 20 trials" in found.text
    assert "lwf@B0-3tasks 19" in found.text


def test_a_run_of_an_earlier_version_says_that_its_space_is_unknown(tmp_path):
    results = open_results(search(tmp_path / "run", _points(20, lambda p: p["hp.x"]), None))
    assert spaces(results) is None
    found = VIEWS["importance"](results)
    assert found.bare
    assert "earlier version" in found.text
    assert VIEWS["range_edges"](results).bare


def test_runs_read_as_one_keep_their_spaces_under_their_new_names(tmp_path):
    points = _points(20, lambda p: p["hp.x"])
    folders = [
        search(tmp_path / name, points, THREE, resolved={"cells": [{"name": "lwf@B0-3tasks"}]})
        for name in "ab"
    ]
    both = open_results(folders)
    known = spaces(both)
    assert known is not None
    assert set(known) == {cell.name for cell in cells(both)}
    assert len(known) == 2
    assert set(VIEWS["importance"](both).table["trials"]) == {20}


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "float", "low": 2.0, "high": 1.0},
        {"kind": "int", "low": "a"},
        {"kind": "word"},
        {"low": -1.0, "log": True},
        {"column": 3},
        {"when": 3},
        {"default": []},
        {"kind": "choice", "choices": 3},
    ],
)
def test_a_damaged_space_is_one_line(tmp_path, broken):
    points = [{"hp.x": 0.5, "objective": 0.5}]
    results = open_results(search(tmp_path / "run", points, [{**ranged("x", 0.5, 1.0), **broken}]))
    with pytest.raises(
        BadRequest, match=r"study\.yaml is damaged: the parameters of cell lwf@B0-3tasks"
    ) as error:
        spaces(results)
    assert "\n" not in str(error.value)


def test_optuna_is_loaded_only_for_the_importance_itself(tmp_path):
    code = (
        "import sys\nfrom analysis.lake.open import open_results\nfrom analysis.report.section import VIEWS\n"
        "run = open_results(sys.argv[1])\nVIEWS['importance'](run)\nVIEWS['best_of_n'](run)\n"
        "print('optuna' in sys.modules, 'torch' in sys.modules)\n"
    )
    for n, loaded in ((19, "False"), (20, "True")):
        folder = search(tmp_path / f"{n}", _points(n, lambda p: p["hp.x"]), THREE)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, folder], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [loaded, "False"]
        assert done.stderr == ""


# Edges


def _edges(tmp_path, points, space):
    found = VIEWS["range_edges"](open_results(search(tmp_path / "run", points, space)))
    return found, [line for line in found.text.split("\n\n") if line.startswith("Warning:")]


def test_a_value_at_the_edge_of_a_narrowed_range_is_to_be_widened(tmp_path):
    whole = {"kind": "float", "low": 0.02, "high": 8.0, "log": True}
    space = [ranged("kd_weight", 0.02, 2.0, log=True, whole=whole)]
    # 1.6 lies at ln(1.6 / 0.02) / ln(2 / 0.02) = 0.952 of the range; 0.1 in the middle.
    points = [{"hp.kd_weight": w, "objective": v} for w, v in ((0.1, 0.5), (1.6, 0.6), (0.1, 0.4))]
    found, warned = _edges(tmp_path, points, space)
    assert warned == [
        "Warning: lwf@B0-3tasks selected kd_weight 1.6 at the upper edge of [0.02, 2] log: "
        "widen it, 8 is allowed."
    ]
    assert found.table["position"].iloc[0] == pytest.approx(0.9515, abs=1e-4)
    assert "1 of 1 selected numbers lie at an edge" in found.text


def test_the_methods_whole_range_cannot_be_widened(tmp_path):
    whole = {"kind": "float", "low": 1.0, "high": 5.0, "log": False}
    space = [ranged("t", 1.0, 5.0, whole=whole)]
    points = [{"hp.t": t, "objective": -t} for t in (1.1, 3.0, 4.0)]
    _, warned = _edges(tmp_path, points, space)
    assert len(warned) == 1
    assert (
        "at the lower edge of [1, 5]: that is the method's whole range, which a study cannot widen"
        in warned[0]
    )


def test_three_best_configurations_at_one_end_are_said_louder_and_first(tmp_path):
    space = [ranged("a", 0.0, 1.0), ranged("b", 0.0, 1.0)]
    values = ((0.99, 1.0, 0.9), (0.5, 0.98, 0.8), (0.5, 0.96, 0.7), (0.5, 0.0, 0.6))
    points = [{"hp.a": a, "hp.b": b, "objective": v} for a, b, v in values]
    found, warned = _edges(tmp_path, points, space)
    assert [line.split("selected ")[1][0] for line in warned] == ["b", "a"]
    assert "The best 3 trials all lie there" in warned[0]
    assert "all lie there" not in warned[1]
    assert list(found.table["edge"]) == ["upper", "upper (all)"]


def test_ordered_numbers_to_choose_from_have_ends_and_words_have_none(tmp_path):
    space = [chosen_from("k", 4, 1, 2), chosen_from("loss", "a", "b", "c"), chosen_from("two", 1, 2)]
    points = [{"hp.k": k, "hp.loss": "a", "hp.two": 1, "objective": -float(k)} for k in (1, 2, 4)]
    found, warned = _edges(tmp_path, points, space)
    assert list(found.table["hyperparameter"]) == ["k"]
    assert "selected k 1 at the lower edge of {4, 1, 2}: widen it" in warned[0]


def test_a_value_of_a_branch_that_was_not_taken_is_not_at_an_edge(tmp_path):
    space = [chosen_from("loss", "kl", "none"), ranged("weight", 0.0, 1.0, when={"hp.loss": ["kl"]})]
    points = [{"hp.loss": "none", "hp.weight": 0.0, "objective": 0.9}]
    points += [{"hp.loss": "kl", "hp.weight": 0.5, "objective": 0.1}] * 2
    found, warned = _edges(tmp_path, points, space)
    assert warned == []
    assert found.bare


# Best of n


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


def test_gpu_seconds_count_the_share_that_a_run_holds(tmp_path):
    points = [{"objective": v, "device": "cuda:0"} for v in (0.2, 0.4, 0.3)]
    folder = search(tmp_path / "run", points, None, resources={"gpu": 0.25})
    frame = VIEWS["best_of_n"](open_results(folder)).table
    assert frame["GPU-seconds"].iloc[0] == pytest.approx(0.25 * 30)
    assert frame["best of 1"].iloc[0] == pytest.approx(0.3)
    assert frame["best of all"].iloc[0] == pytest.approx(0.4)
    assert frame["default"].iloc[0] == pytest.approx(0.2)
    assert frame["n above default"].iloc[0] == 1


# The winner


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 2))
def test_redraws_of_configurations_are_exact(values, incomplete):
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


def test_noise_of_two_configurations_changes_the_winner_as_often_as_the_normal_law_says():
    draw = np.random.default_rng(0)
    found = by_noise(np.array([0.6, 0.5]), np.array([0.1, 0.1]), 0.05, draw, 40_000)
    beaten = 0.5 * math.erfc(0.1 / math.sqrt(0.02) / math.sqrt(2))  # P(N(0.1, 0.02) < 0)
    assert found.another == pytest.approx(beaten, abs=0.01)
    assert found.worse == pytest.approx(found.another)
    assert found.loss == pytest.approx(0.1 * beaten, abs=0.002)
    assert by_noise(np.array([0.6, 0.5]), np.zeros(2), 0.05, draw, 10).another == 0


def test_class_orders_are_redrawn_for_all_configurations_alike():
    groups = np.array([[0.9, 0.1], [0.8, 0.0]])  # orders differ much, the lead is the same on each
    draw = np.random.default_rng(0)
    assert by_order(groups, False, 0.005, draw, 500).another == 0
    swapped = np.array([[0.9, 0.1], [0.0, 0.8]])  # the first leads on one order, and by 0.1 in the mean
    assert by_order(swapped, False, 0.005, draw, 4000).another == pytest.approx(0.25, abs=0.03)


def test_the_winner_section_counts_the_configurations_within_one_standard_error(tmp_path):
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


# What a trial came to


def _states(results: Results) -> dict[int, str]:
    (cell,) = cells(results)
    table = trials(results, cell)
    return dict(zip(table["trial"], table["status"], strict=True))


def test_runs_of_evaluate_are_no_configurations_of_the_search(tmp_path):
    points = [{"objective": 0.5}, {"objective": 0.6}, {"objective": 0.9, "purpose": "reference"}]
    points.append({"objective": 0.9, "purpose": "final"})
    assert _states(open_results(search(tmp_path / "run", points, None))) == {0: "completed", 1: "completed"}


def test_a_configuration_with_fewer_runs_is_unfinished_without_a_stopper_and_stopped_with_one(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    (folder / "tables/runs/lwf@B0-2tasks--1--seed-1--s0.parquet").unlink()
    assert _states(open_results(folder)) == {0: "completed", 2: "completed"}
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["search"]["stopper"] = "wilcoxon"
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    assert 1 not in _states(open_results(folder)), "its second run has left a task's rows: it is under way"
    (folder / "tables/tasks/lwf@B0-2tasks--1--seed-1--s0.parquet").unlink()
    assert _states(open_results(folder)) == {0: "completed", 1: "stopped", 2: "completed"}
