"""Views of errors between tasks and classes, on counts that are written down."""

from __future__ import annotations

import pytest

from analysis.views.class_drilldown import class_drilldown
from analysis.views.forgetting import forgetting_view
from analysis.views.old_and_new_errors import old_and_new_errors
from analysis.views.split_effects import split_effects
from analysis.views.stability_plasticity import stability_plasticity
from analysis.views.task_and_class import task_and_class
from analysis.views.task_curves import task_curves
from tests.analysis.hand_counts import Hand, lake

# Two tasks of two classes, ten rows a class: cat and dog, then car and ship.
FIRST = [[9, 1], [2, 8]]
LWF = [[5, 1, 4, 0], [0, 3, 2, 5], [1, 0, 8, 1], [0, 2, 0, 8]]
JOINT = [[8, 1, 1, 0], [1, 8, 0, 1], [1, 0, 9, 0], [0, 0, 0, 10]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """LwF beside joint training."""
    runs = [Hand("lwf", [FIRST, LWF], (2, 2)), Hand("joint", [FIRST, JOINT], (2, 2))]
    return lake(tmp_path_factory.mktemp("errors") / "run", runs)


def row(section, label="lwf"):
    """The row of a label."""
    return section.table.set_index("label").loc[label]


def test_intransigence_is_the_gap_to_joint_training_on_the_new_task(results):
    found = row(stability_plasticity(results))
    assert found["forgetting"] == pytest.approx(17 / 20 - 8 / 20)
    assert found["intransigence"] == pytest.approx(19 / 20 - 16 / 20)
    assert found["joint training"] == "joint"
    assert row(stability_plasticity(results), "joint")["intransigence"] == 0.0


def test_without_joint_training_the_error_on_the_new_task_stands_in(tmp_path):
    found = stability_plasticity(lake(tmp_path / "run", [Hand("lwf", [FIRST, LWF], (2, 2))]))
    assert row(found)["intransigence"] == pytest.approx(4 / 20)
    assert row(found)["joint training"] == "none: 1 − R[k][k]"


def test_errors_are_counted_in_both_directions(results):
    found = row(old_and_new_errors(results))
    assert found["old → new"] == pytest.approx(11 / 20)
    assert found["new → old"] == pytest.approx(3 / 20)
    assert found["asymmetry"] == pytest.approx(8 / 20)
    assert "+0.400, to the newest task: lwf in" in old_and_new_errors(results).answer


def test_accuracy_is_the_task_found_times_the_class_found_within_it(results):
    found = row(task_and_class(results))
    assert found["P(task)"] == pytest.approx(26 / 40)
    assert found["P(class | task)"] == pytest.approx(24 / 26)
    assert found["accuracy"] == pytest.approx(24 / 40)
    assert "harder part for 2 of 2 classifiers" in task_and_class(results).answer


def test_joint_training_finds_the_task_most_often_under_no_label(tmp_path):
    runs = [Hand("lwf", [FIRST, LWF], (2, 2)), Hand("upper", [FIRST, JOINT], (2, 2), method="joint")]
    assert "lwf (head) in B0-2tasks finds it" in task_and_class(lake(tmp_path / "run", runs)).answer


def test_the_largest_loss_of_a_task_is_since_it_was_learnt(results):
    found = row(task_curves(results))
    assert found["task 0"] == pytest.approx(8 / 20)
    assert found["task 1"] == pytest.approx(16 / 20)
    assert found["largest loss"] == pytest.approx(9 / 20)
    assert found["of task"] == 0


def test_answers_on_errors_are_about_methods_where_there_are_some(tmp_path):
    lost = [[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 9, 1], [0, 0, 1, 9]]
    both = [Hand("finetune", [FIRST, lost], (2, 2)), Hand("lwf", [FIRST, LWF], (2, 2))]
    results = lake(tmp_path / "both", both)
    assert (
        "1 of 1 cell. The largest asymmetry is +0.400, to the newest task: lwf"
        in old_and_new_errors(results).answer
    )
    assert "mean over 1 cell. The largest loss is 0.450: lwf on task 0" in task_curves(results).answer
    alone = lake(tmp_path / "alone", both[:1])
    assert "+1.000, to the newest task: finetune" in old_and_new_errors(alone).answer
    assert ": finetune on task 0" in task_curves(alone).answer


def test_a_minus_in_a_sentence_is_that_of_a_number_and_never_of_a_name(tmp_path):
    runs = [
        Hand("kd-0.5", [FIRST, LWF], (2, 2)),
        Hand("kd-0.5", [FIRST, JOINT], (2, 2), scenario="B2-0.1"),
        Hand("joint", [FIRST, LWF], (2, 2), scenario="B2-0.1"),
    ]
    results = lake(tmp_path / "run", runs)
    views = (old_and_new_errors, stability_plasticity, task_curves, split_effects)
    answers = [view(results).answer for view in views]
    assert all("kd-0.5" in answer for answer in answers[:3])
    assert "B2-0.1" in answers[3]
    assert "intransigence −0.150" in answers[1]


def test_a_class_is_shown_with_what_it_is_mistaken_for(results):
    section = class_drilldown(results)
    assert section.answer.startswith("In B0-2tasks, dog is hardest (0.550) and ship easiest (0.900)")
    ends = section.tables[0].frame.set_index(["label", "class"]).loc[("lwf", "dog")]
    assert ends["accuracy"] == pytest.approx(0.3)
    assert (ends["mistaken for"], ends["in"]) == ("ship", 0.5)
    assert list(section.figure.data[0].x) == ["dog", "cat", "car", "ship"]


def test_a_class_that_is_named_by_a_number_is_called_a_class(tmp_path):
    results = lake(tmp_path / "run", [Hand("lwf", [FIRST, LWF], (2, 2))])
    results.classes["class_name"] = results.classes["class"].astype(str)
    assert class_drilldown(results).answer.startswith("In B0-2tasks, class 1 is hardest (0.300) and class ")


def test_classes_and_tasks_without_rows_are_left_out(tmp_path):
    """No dog at all, and in another run no row of the newest task."""
    dogless = [[[9, 1], [0, 0]], [[5, 1, 4, 0], [0, 0, 0, 0], *LWF[2:]]]
    section = class_drilldown(lake(tmp_path / "classes", [Hand("lwf", dogless, (2, 2))]))
    assert section.answer.startswith("In B0-2tasks, cat is hardest (0.500) and ship easiest (0.800)")
    assert "dog" not in set(section.tables[0].frame["class"])
    old = [FIRST, [*LWF[:2], [0] * 4, [0] * 4]]
    runs = [Hand("bic", old, (2, 2)), Hand("lwf", [FIRST, LWF], (2, 2))]
    found = old_and_new_errors(lake(tmp_path / "tasks", runs))
    assert "in 1 of 1 cell. The largest asymmetry is +0.400, to the newest task: lwf" in found.answer


def test_classes_are_joined_by_name_over_class_orders(tmp_path):
    """A class that comes first in one order and last in another is one class."""
    runs = [Hand("lwf", [FIRST, LWF], (2, 2)), Hand("lwf", [FIRST, JOINT], (2, 2), order="seed:1")]
    found = class_drilldown(lake(tmp_path / "run", runs)).table.iloc[0]
    assert found["worst class"] == pytest.approx(11 / 20)


def test_the_accuracy_matrix_has_its_spread_over_class_orders(tmp_path):
    """Accuracies .4 and .8 on the first task at the end: a standard deviation of .4 / √2."""
    runs = [Hand("lwf", [FIRST, LWF], (2, 2)), Hand("lwf", [FIRST, JOINT], (2, 2), order="seed:1")]
    section = forgetting_view(lake(tmp_path / "run", runs))
    heat = section.figure.data[0]
    end = 16 / 20 - 8 / 20
    assert heat.text[1][0] == f"± {end / 2**0.5:.2f}"
    assert list(heat.text[0]) == ["± 0.00", ""]
    new = 19 / 20 - 16 / 20
    assert section.table["sd over class orders"].iloc[0] == pytest.approx((end + new) / 2**0.5 / 3)
