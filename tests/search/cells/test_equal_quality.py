"""The replayed work of plain Tune for selections as good as ours."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.equal_quality import Asha, plain, work_for
from tests.benchmarks.work import at_equal_gain
from tests.search.replay.class_orders import recorded


def test_the_work_for_a_gain_is_that_of_its_first_reach() -> None:
    gain, work = np.array([0.0, 0.01, 0.005, 0.03]), np.array([10.0, 20.0, 30.0, 40.0])
    assert work_for(-0.01, gain, work) == (10.0, True)
    assert work_for(0.005, gain, work) == (15.0, True)
    assert work_for(0.02, gain, work) == (pytest.approx(36.0), True)
    assert work_for(0.04, gain, work) == (40.0, False)


def test_tunes_asha_looks_after_one_and_after_four_of_five_tasks() -> None:
    asha = Asha(5)
    assert asha.tasks("a", np.full(5, 0.5)) == 5
    assert asha.tasks("b", np.full(5, 0.4)) == 1  # below the upper quartile of .5
    assert asha.tasks("c", np.array([0.6, 0.1, 0.1, 0.4, 0.9])) == 4
    assert asha.tasks("d", np.full(5, 0.7)) == 5


def test_plain_tune_trains_every_first_task_and_stops_no_trial_below_its_first_look() -> None:
    cell = recorded()["lwf@B0-5tasks"]
    gain, work = plain(cell, 0)
    steps = np.diff(work, prepend=0.0)
    whole, without_the_last = cell.images[0, 0].sum(), cell.images[0, 0, :4].sum()
    assert len(gain) == len(work) == 100
    assert set(steps) == {float(whole), float(without_the_last)}


def test_the_ratio_of_a_scenario_is_the_mean_over_all_of_its_recorded_cells() -> None:
    ratios = {"lwf@B4-inc2": 7.0, "lucir@B4-inc2": 2.0, "lwf@B0-5tasks": 3.0}
    cells = {cell: {"plain_for_our_gain": ratio} for cell, ratio in ratios.items()}
    assert at_equal_gain(cells, "B4-inc2") == 4.5
    assert at_equal_gain(cells, "B0-5tasks") == 3.0
