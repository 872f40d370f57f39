"""Pausing, waking and preferring cells; a budget that is spent; a search that starts from another run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from cl_core.errors import BadRequest
from search import control
from search.budget import SPENT, Budget, check_budget
from search.cells import Cells
from search.storage import read_journal
from search.warm import observations
from search.writer import start_tables
from spaces.budget import BudgetPart, seconds_in
from tests.search.simulation import SCHEMAS, Driver, images, made, told

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF, BIC = "lwf@B0-5tasks", "bic@B0-5tasks"


def begun(resolved: Any, folder: Path) -> Any:
    """The study, with its study.yaml in the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(resolved.to_yaml())
    return resolved


def counts(driver: Driver) -> dict[str, int]:
    return dict(Counter(job.rsplit("/", 1)[0] for job, _ in driver.order))


# Pause, resume, priority.


def test_a_cell_that_is_paused_while_a_run_is_going_starts_nothing_new(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=4), tmp_path)
    with Cells(resolved, tmp_path, bases=False) as cells:
        driver = Driver(cells, tmp_path, concurrent=2).run(2)
        under_way = {job.id for job in driver.open}
        control.pause(tmp_path, LWF)
        driver.run()
        assert counts(driver) == {LWF: 2, BIC: 4}
        assert under_way <= {job for job, _ in driver.order}
        assert cells.finished
        assert cells.left == f"paused: {LWF}"
        assert [p.paused for p in cells.progress()] == [True, False]
    with Cells(resolved, tmp_path, bases=False) as cells:  # survives a restart
        assert cells.finished
        assert cells.next() is None
        control.resume(tmp_path, LWF)
        assert not cells.finished
        driver = Driver(cells, tmp_path).run()
        assert counts(driver) == {LWF: 2}
        assert cells.left is None


def test_a_run_that_was_begun_waits_while_its_cell_is_paused(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=2), tmp_path)
    with Cells(resolved, tmp_path, bases=False) as cells:
        first = cells.next()
        assert first is not None
    control.pause(tmp_path, LWF)
    with Cells(resolved, tmp_path, bases=False) as cells:
        assert counts(Driver(cells, tmp_path).run()) == {BIC: 2}
    control.resume(tmp_path, LWF)
    with Cells(resolved, tmp_path, bases=False) as cells:
        assert Driver(cells, tmp_path).run().order[0] == (first.id, first.spec.config)


def test_a_cell_of_higher_priority_is_asked_first(study: Any, tmp_path: Path) -> None:
    resolved = begun(study(trials=3), tmp_path)
    with Cells(resolved, tmp_path, bases=False) as cells:
        driver = Driver(cells, tmp_path).run(1)
        control.prioritise(tmp_path, BIC, 2)
        driver.run()
    assert [job.split("@")[0] for job, _ in driver.order] == ["lwf", "bic", "bic", "bic", "lwf", "lwf"]


def test_only_a_cell_of_the_run_can_be_paused_and_a_damaged_state_is_named(
    study: Any, tmp_path: Path
) -> None:
    begun(study(), tmp_path)
    with pytest.raises(BadRequest, match="unknown cell 'lwf@B0-5task': did you mean 'lwf@B0-5tasks'"):
        control.pause(tmp_path, "lwf@B0-5task")
    with pytest.raises(BadRequest, match="holds no run"):
        control.pause(tmp_path / "elsewhere", LWF)
    (tmp_path / control.CONTROL).write_text('{"paused": [')
    with pytest.raises(BadRequest, match=r"control.json is damaged .* remove it"):
        control.read(tmp_path)
    for plain in (
        {"paused": [1], "priority": {}},
        [],
        {"paused": []},
        {"paused": [], "priority": {"a": "x"}},
    ):
        (tmp_path / control.CONTROL).write_text(json.dumps(plain))
        with pytest.raises(BadRequest, match="is damaged"):
            control.read(tmp_path)


# Budget.


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
    straight = Driver(Cells(resolved, tmp_path / "straight", bases=False), tmp_path / "straight").run()
    folder = tmp_path / "limited"
    budget = Budget(BudgetPart(wall="1h"), folder, began=clock.now, clock=clock)
    with Cells(resolved, folder, bases=False, budget=budget) as cells:
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
    budget = Budget(BudgetPart(wall="1h"), folder, began=clock.now, clock=clock)
    with Cells(resolved, folder, bases=False, budget=budget) as cells:
        second = Driver(cells, folder).run()
    assert second.order[0][0] == job.id
    assert driver.order[:1] + second.order == straight.order
    assert told(folder, LWF) == told(tmp_path / "straight", LWF)


def test_gpu_hours_are_counted_over_all_commands(study: Any, tmp_path: Path) -> None:
    resolved, clock = study({"lwf": None}, trials=9), Clock()
    started = []
    for _ in range(4):
        budget = Budget(BudgetPart(gpu_hours=1.0), tmp_path, gpu=0.5, clock=clock)
        with Cells(resolved, tmp_path, bases=False, budget=budget) as cells:
            while (job := cells.next()) is not None:
                started.append(job.id)
                clock.now += 1500
                cells.report(job.id, 1, 0.5)
                if len(started) == 2:
                    break  # killed: what was reported is counted
                cells.done(job.id, "completed", (0.5,), 0.5)
            assert budget.gpu_hours == pytest.approx(len(started) * 1500 * 0.5 / 3600)
    assert len(started) == 5  # 5 * 1500 * 0.5 = 3750 s
    (tmp_path / SPENT).write_text("{")
    with pytest.raises(BadRequest, match="damaged"):
        Budget(BudgetPart(), tmp_path)


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
        with pytest.raises(BadRequest, match=r"budget.wall must be a span"):
            seconds_in(bad)
    assert (
        Budget(BudgetPart(until="2020-01-01"), Path("nowhere")).over == "budget.until 2020-01-01 is reached"
    )


# Warm start.


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("other")
    resolved = begun(made(images(), trials=5), folder)
    start_tables(folder, SCHEMAS)
    with Cells(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run()
    return folder


def test_a_search_starts_from_what_another_run_found(other: Path, study: Any, tmp_path: Path) -> None:
    asked = {}
    for name, start in (("cold", ["paper"]), ("warm", ["paper", str(other)])):
        resolved = study(trials=6, start_from=start, sampler_args={"n_startup_trials": 5})
        known = {source: observations(resolved, source) for source in resolved.study.search.sources}
        folder = tmp_path / name
        for jobs in (4, None):  # a restart learns nothing twice
            with Cells(resolved, folder, bases=False, known=known) as cells:
                driver = Driver(cells, folder).run(jobs)
        asked[name] = [told(folder, cell) for cell in (LWF, BIC)]
        storage = read_journal(folder)
        assert storage is not None
        trials = optuna.load_study(study_name=LWF, storage=storage).trials
        assert sum("source" in t.user_attrs for t in trials) == (5 if name == "warm" else 0)
        assert [len(found) for found in asked[name]] == [6, 6]  # what is known costs no budget
        assert driver.cells.finished
    assert asked["warm"] != asked["cold"]
    assert [found[0] for found in asked["warm"]] == [found[0] for found in asked["cold"]]  # paper first
    theirs = {value for _, _, value in told(other, LWF)}
    assert theirs == {t.value for t in trials if "source" in t.user_attrs}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"methods": {"lwf": {"kd_weight": {"float": [1, 2]}}}},
            "has another space: lwf@B0-5tasks/0: hp.kd_w",
        ),
        ({"methods": {"lwf": {"kd_weight": 1.0}}}, "has another space: .*hp.kd_weight"),
        (
            {"methods": {"finetune": None}},
            "no completed trial of a cell of this study .it has bic@B0-5tasks, lwf",
        ),
        ({"scenarios": ["B2-inc4"]}, "no completed trial of a cell of this study"),
        ({"objective": "last_accuracy"}, "has other objectives .*its values say nothing here"),
        ({"protocol": {"validation": 0.2}}, "has other protocol.validation .0.1, here 0.2."),
    ],
)
def test_another_space_or_protocol_is_refused_in_one_line(
    changes: dict[str, Any], says: str, other: Path, study: Any
) -> None:
    resolved = study(**{"trials": 3, "start_from": [str(other)], **changes})
    with pytest.raises(BadRequest, match=says) as caught:
        observations(resolved, str(other))
    assert "\n" not in str(caught.value)


def test_another_recipe_is_refused_and_so_is_a_folder_without_a_run(
    other: Path, study: Any, tmp_path: Path
) -> None:
    from spaces.resolved import resolve
    from spaces.study_file import load_study

    resolved = study(trials=3)
    plain = resolved.study.to_plain() | {"recipe": {"epochs": 3}}
    with pytest.raises(BadRequest, match=r"recipe.epochs must be one of 3, not 50; or leave it out"):
        observations(resolve(load_study(plain), resolved.data), str(other))
    with pytest.raises(BadRequest, match="must be the folder of a run, and there is none"):
        observations(resolved, str(tmp_path / "nowhere"))
