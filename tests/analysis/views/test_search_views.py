"""Views of splits, variance, losses and searched values, with figures computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.views.best_tenth import best_tenth
from analysis.views.hyperparameters import hyperparameters
from analysis.views.split_effects import split_effects
from analysis.views.variance_parts import Components, variance_parts
from tests.analysis.hand_counts import Hand, lake


def counts(right, rows=10):
    """Two tasks of one class, of which the second leaves `right` of ten rows right."""
    return [[[rows]], [[right, rows - right], [rows - right, right]]]


def whole(right):
    """Both classes in a base task of two, then a third and a fourth class."""
    first = [[10, 0], [0, 10]]
    return [
        first,
        (np.eye(4, dtype=int) * right + np.roll(np.eye(4, dtype=int), 1, 1) * (10 - right)).tolist(),
    ]


def test_splits_of_the_same_classes_are_compared_by_last_accuracy(tmp_path):
    four = [[[10]], *(np.eye(k, dtype=int) * 4 + np.roll(np.eye(k, dtype=int), 1, 1) * 6 for k in (2, 3, 4))]
    runs = [
        Hand("lwf", four, (1, 1, 1, 1), scenario="B0-4tasks"),
        Hand("lwf", whole(7), (2, 2), scenario="B2-inc2"),
        Hand("other", counts(5), scenario="B0-2tasks"),  # other classes: not compared
    ]
    section = split_effects(lake(tmp_path / "run", runs))
    table = section.table.set_index("scenario")
    assert table.index.tolist() == ["B0-4tasks", "B2-inc2"]
    assert table["last accuracy"].tolist() == pytest.approx([0.4, 0.7])
    assert table["increments"].tolist() == ["3 × 1", "1 × 2"]
    assert section.answer.startswith(
        "B2-inc2 gives +0.300 in last accuracy over B0-4tasks, mean over 1 label;"
    )


def test_the_most_distant_splits_are_those_of_the_labels_that_have_both(tmp_path):
    """The label that one split alone has is far below the others, and says nothing of the split."""
    four = [[[10]], *(np.eye(k, dtype=int) * 5 + np.roll(np.eye(k, dtype=int), 1, 1) * 5 for k in (2, 3, 4))]
    runs = [
        Hand("lwf", four, (1, 1, 1, 1), scenario="B0-4tasks"),
        Hand("lwf", whole(7), (2, 2), scenario="B2-inc2"),
        Hand("bic", whole(1), (2, 2), scenario="B2-inc2"),
    ]
    answer = split_effects(lake(tmp_path / "run", runs)).answer
    assert answer.startswith("B2-inc2 gives +0.200 in last accuracy over B0-4tasks, mean over 1 label;")


def test_components_of_an_additive_design_are_those_of_its_means():
    """Trials 0 and 2, orders 0 and 4: variances 2 and 8, and nothing else."""
    values = np.array([[0.0, 4.0], [2.0, 6.0]])[..., None]
    found = Components.of(values)
    assert found.parts == pytest.approx({"trial": 2.0, "class order": 8.0, "trial × order, and seed": 0.0})


def test_with_two_seeds_the_seed_has_its_own_part():
    """Seeds -1 and 1 in every place: a variance of 2, taken out of the others."""
    values = np.array([[0.0, 4.0], [2.0, 6.0]])[..., None] + np.array([-1.0, 1.0])
    found = Components.of(values)
    assert found.parts["seed"] == pytest.approx(2.0)
    assert found.parts["trial"] == pytest.approx(2.0)
    assert found.parts["trial × order"] == 0.0


def test_trials_without_every_class_order_are_left_out(tmp_path):
    runs = [
        Hand("lwf", counts(right), trial=trial, order=order)
        for trial, order, right in (
            *((0, "natural", 4), (0, "seed:1", 6)),
            *((1, "natural", 6), (1, "seed:1", 8)),
            (2, "natural", 9),
        )
    ]
    row = variance_parts(lake(tmp_path / "run", runs)).table.iloc[0]
    assert (row["trials"], row["class orders"], row["seeds"]) == (2, 2, 1)
    assert row["share of trial"] == pytest.approx(row["share of class order"]) == pytest.approx(0.5)


def test_a_truth_value_stays_one_in_a_column_that_may_lack_it(tmp_path):
    runs = [Hand("lwf", counts(n), trial=n, hp={"flip": n % 2 == 0, "kd_weight": 1.0 + n}) for n in range(10)]
    results = lake(tmp_path / "run", [*runs, Hand("bic", counts(5))])
    assert results.runs["hp.flip"].dtype == "boolean"
    tried = hyperparameters(results).table.set_index("hyperparameter").loc["flip"]
    assert (tried["best"], tried["tried"]) == ("False", "False, True")
    assert best_tenth(results).table.set_index("hyperparameter").loc["flip", "range tried"] == "False … True"


def test_the_best_tenth_shares_the_value_that_decides(tmp_path):
    runs = [
        Hand(
            "lwf",
            counts(trial % 10),
            trial=trial,
            hp={"kd_weight": 10.0 ** (trial % 10), "lr": 1.0 + trial % 3},
        )
        for trial in range(10)
    ]
    section = best_tenth(lake(tmp_path / "run", runs))
    table = section.table.set_index("hyperparameter")
    assert table.loc["kd_weight", "share of the range"] == pytest.approx(2 / 9)
    assert table.loc["lr", "share of the range"] == pytest.approx(1.0)
    assert section.answer.startswith("The best 3 of 10 trials of lwf in B0-2tasks agree most on kd_weight")
