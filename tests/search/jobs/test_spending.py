"""A budget that is spent: running tasks end, nothing starts, the next command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.lake.run_folder import SPENT
from cl_core.errors import BadRequest
from search.cells.search_queue import SearchQueue
from search.jobs.spending import Spending, check_budget
from spaces.study.budget import BudgetPart, seconds_in
from tests.search.simulation import Driver, ended, told

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF, BIC = "lwf@B0-5tasks", "bic@B0-5tasks"


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_spent_budget_lets_the_running_task_end_and_the_next_command_goes_on(
    study: Any, tmp_path: Path
) -> None:
    resolved, clock = study({"lwf": None}, trials=3), Clock()
    straight = Driver(SearchQueue(resolved, tmp_path / "straight", bases=False), tmp_path / "straight").run()
    folder = tmp_path / "limited"
    spending = Spending(BudgetPart(wall="1h"), folder, began=clock.now, clock=clock)
    with SearchQueue(resolved, folder, bases=False, spending=spending) as cells:
        driver = Driver(cells, folder).run(1)
        (job,) = driver.open
        clock.now += 3600
        assert not cells.report(job.id, 2, 0.5)
        assert cells.halted
        assert not cells.finished  # its task runs until it is handed back
        cells.hand_back(job.id)
        assert cells.finished
        assert cells.next() is None
        assert cells.left == "budget.wall of 1h is spent"
    clock.now += 10
    spending = Spending(BudgetPart(wall="1h"), folder, began=clock.now, clock=clock)
    with SearchQueue(resolved, folder, bases=False, spending=spending) as cells:
        second = Driver(cells, folder).run()
    assert second.order[0][0] == job.id
    assert driver.order[:1] + second.order == straight.order
    assert told(folder, LWF) == told(tmp_path / "straight", LWF)


def test_gpu_hours_are_counted_over_all_commands(study: Any, tmp_path: Path) -> None:
    resolved, clock = study({"lwf": None}, trials=9), Clock()
    started = []
    for _ in range(4):
        spending = Spending(BudgetPart(gpu_hours=1.0), tmp_path, gpu=0.5, clock=clock)
        with SearchQueue(resolved, tmp_path, bases=False, spending=spending) as cells:
            while (job := cells.next()) is not None:
                started.append(job.id)
                clock.now += 1500
                cells.report(job.id, 1, 0.5)
                if len(started) == 2:
                    break  # killed: what was reported is counted
                cells.done(ended(job.id, "completed", (0.5,), 0.5))
            assert spending.gpu_hours == pytest.approx(len(started) * 1500 * 0.5 / 3600)
    assert len(started) == 5  # 5 * 1500 * 0.5 = 3750 s
    wrong = ("Infinity", "NaN", "-1", "1e999", '"3"', "true", "null", "1" * 5000)
    for text in ("{", "[]", "[" * 100_000, *(f'{{"gpu_seconds": {value}}}' for value in wrong)):
        (tmp_path / SPENT).write_text(text)
        with pytest.raises(BadRequest, match="damaged"):
            Spending(BudgetPart(), tmp_path)


def test_a_finished_study_whose_moment_is_over_has_nothing_to_do(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=2)
    over = BudgetPart(until="2020-01-01")
    check_budget(over, 0.0, begun=True)
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run(1)
    with SearchQueue(resolved, tmp_path, bases=False, spending=Spending(over, tmp_path)) as cells:
        assert (cells.finished, cells.left) == (True, "budget.until 2020-01-01 is reached")
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run()
    with SearchQueue(resolved, tmp_path, bases=False, spending=Spending(over, tmp_path)) as cells:
        assert (cells.finished, cells.left) == (True, None)


def test_a_budget_that_could_not_be_kept_is_a_bad_request() -> None:
    with pytest.raises(
        BadRequest, match=r"budget.gpu_hours is 3, but no run holds a GPU here: set budget.wall"
    ):
        check_budget(BudgetPart(gpu_hours=3), 0.0)
    with pytest.raises(BadRequest, match=r"budget.until 2020-01-01 is over"):
        check_budget(BudgetPart(until="2020-01-01"), 0.0)
    check_budget(BudgetPart(gpu_hours=3, until="2999-01-01T00:00+00:00", wall="2d"), 0.5)
    assert [seconds_in(t) for t in ("45s", "90min", "3h50min", "2d", "1.5h")] == [
        45,
        5400,
        13800,
        172800,
        5400,
    ]
    for bad in ("", "3", "h", "-3h", "3 hours", "0s"):
        with pytest.raises(BadRequest, match=r"budget.wall must be a time span"):
            seconds_in(bad)
    assert (
        Spending(BudgetPart(until="2020-01-01"), Path("nowhere")).over == "budget.until 2020-01-01 is reached"
    )
