"""The view of range edges: selected values at the end of a range."""

from __future__ import annotations

import pytest

from analysis.lake.open import open_results
from analysis.report.section import VIEWS
from tests.analysis.planted_search import chosen_from, ranged, search


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
    assert "1 of 1 selected numbers lie at an edge" in found.answer


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


def test_three_best_trials_at_one_end_are_said_louder_and_first(tmp_path):
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
