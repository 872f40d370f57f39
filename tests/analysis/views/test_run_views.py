"""Views of losses, time, scores and failures, on runs that are written down."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.views.failures import failures
from analysis.views.score_bias import score_bias
from analysis.views.time_spent import time_spent
from analysis.views.training_loss import training_loss
from tests.analysis.hand_counts import Hand, lake

COUNTS = [[[9]], [[6, 4], [1, 9]]]


def falling(*values, phase="train", task=0):
    """The losses of one phase, an epoch each."""
    return [(task, phase, epoch, "ce", value) for epoch, value in enumerate(values)]


def test_the_slope_at_the_end_is_that_of_the_last_epoch_over_the_mean_one(tmp_path):
    level = [*falling(3.0, 1.0, 1.0), *falling(5.0, 1.0, task=1), *falling(*[9.0] * 9, phase="bias", task=1)]
    runs = [Hand("lwf", COUNTS, losses=level), Hand("bic", COUNTS, losses=falling(3.0, 2.0, 1.0))]
    section = training_loss(lake(tmp_path / "run", runs))
    table = section.table.set_index("label")
    assert table.loc["lwf", "slope at the end"] == 0.0
    assert table.loc["bic", "slope at the end"] == 1.0
    assert table.loc["lwf", "last loss"] == 1.0
    assert section.answer.startswith("Not in 1 of 2 cells (bic):")


def test_the_loss_is_the_sum_of_its_terms(tmp_path):
    losses = [*falling(1.0, 0.5, 0.25), *[(0, "train", epoch, "kd", 2.0) for epoch in range(3)]]
    section = training_loss(lake(tmp_path / "run", [Hand("lwf", COUNTS, losses=losses)]))
    assert list(section.figure.data[0].y) == [3.0, 2.5, 2.25]


def test_time_counts_a_shared_first_task_once_and_names_lost_runs(tmp_path):
    runs = [
        Hand("lwf", COUNTS, seconds=(10, 20)),
        Hand("lwf", COUNTS, seconds=(10, 20), trial=1, shared=True),
        Hand("bic", COUNTS[:1], seconds=(50,), status="failed", error="NonFiniteLoss: ce is nan"),
    ]
    section = time_spent(lake(tmp_path / "run", runs))
    table = section.table.set_index("label")
    assert table.loc["lwf", "seconds"] == 50.0
    assert table.loc["lwf", "saved by sharing"] == 10.0
    assert table.loc["lwf", ["first tasks", "increments"]].tolist() == [10.0, 40.0]
    assert table.loc["bic", "stopped or failed"] == 50.0
    assert "runs that stopped or failed took 50%" in section.answer


def test_a_first_task_that_a_job_of_its_own_trained_counts_once(tmp_path):
    runs = [Hand("lwf", COUNTS, seconds=(10, 20), trial=n, shared=True) for n in range(3)]
    row = time_spent(lake(tmp_path / "run", runs)).table.iloc[0]
    assert (row["seconds"], row["first tasks"], row["saved by sharing"]) == (70.0, 10.0, 20.0)


def test_tasks_of_a_cell_without_an_ended_run_are_unfinished_time(tmp_path):
    results = lake(tmp_path / "run", [Hand("lwf", COUNTS, seconds=(10, 20))])
    results.runs = results.runs.iloc[:0]
    row = time_spent(results).table.iloc[0]
    assert (row["scenario"], row["unfinished"]) == ("B0-2tasks", 30.0)


def test_runs_that_failed_in_their_first_task_took_no_known_time(tmp_path):
    assert time_spent(lake(tmp_path / "run", [Hand("lwf", [], status="failed")])).bare


def test_margins_are_compared_between_new_and_old_classes(tmp_path):
    runs = [Hand("lwf", COUNTS, scores=[(1.0, 3.0, -0.1), (4.0, 1.0, 0.2)])]
    found = score_bias(lake(tmp_path / "run", runs)).table.iloc[0]
    assert found["margin of the true class, new"] == 3.0
    assert found["margin of the true class, old"] == -2.0
    assert found["bias of the head, new − old"] == pytest.approx(0.3)


def test_a_head_beside_a_rule_without_scores_is_dotted(tmp_path):
    results = lake(tmp_path / "run", [Hand("lwf", COUNTS, scores=[(1.0, 3.0, -0.1), (4.0, 1.0, 0.2)])])
    assert score_bias(results).figure.data[0].line.dash == "solid"
    results.classes = results.classes.assign(primary=False)
    assert score_bias(results).figure.data[0].line.dash == "dot"


def test_failures_name_the_value_that_sets_them_apart(tmp_path):
    done = [Hand("lwf", COUNTS, trial=n, hp={"kd_weight": 0.1 * n, "temperature": 2.0}) for n in range(4)]
    error = "NonFiniteLoss: kd is nan in task 1"
    bad = [
        Hand("lwf", [], trial=n, status="failed", error=error, hp={"kd_weight": float(n), "temperature": 2.0})
        for n in range(4, 7)
    ]
    section = failures(lake(tmp_path / "run", [*done, *bad]))
    row = section.table.iloc[0]
    assert (row["error"], row["failed"], row["of runs"]) == ("NonFiniteLoss", 3, 7)
    assert row["set apart by"] == "larger kd_weight (1.00)"
    assert section.answer == "3 of 7 runs failed (42.9%); 3 of them with NonFiniteLoss."


def test_a_failure_without_an_error_has_no_example(tmp_path):
    runs = [Hand("lwf", COUNTS), Hand("bic", [], status="failed")]
    row = failures(lake(tmp_path / "run", runs)).table.iloc[0]
    assert row["error"] == "unknown"
    assert pd.isna(row["example"])


def test_no_failure_is_no_section(tmp_path):
    assert failures(lake(tmp_path / "run", [Hand("lwf", COUNTS)])).bare
