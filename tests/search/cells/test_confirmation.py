"""Confirmation in the queue: which runs, when, and after what interruption."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from analysis import open_results
from analysis.lake.run_rows import run_rows
from analysis.selection.selection import cells
from cl_core.records import CONFIRM, OWN_DEFAULT
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.commands.status import show, status
from search.display.cells import ended, ended_in_words, total
from search.lake.writer import start_tables, study_schemas
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study import ResolvedStudy
from tests.search.simulation import Driver, Ending, begun, worth

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

PROTOCOL = {"confirm": {"top": 2, "orders": 3}}
LWF = "lwf@B0-5tasks"


def run(resolved: ResolvedStudy, folder: Path, jobs: int | None = None, **how: Any) -> Driver:
    """Carry out the study in simulation, or some of its jobs and then drop it."""
    begun(resolved, folder)
    start_tables(folder, study_schemas(resolved.methods))
    return Driver(SearchQueue(resolved, folder, bases=False), folder).run(jobs, **how)


def confirming(driver: Driver) -> list[str]:
    return [job for job, _ in driver.order if f"/{CONFIRM}/" in job]


def test_the_runs_of_a_cell_are_those_that_its_trials_would_have_cost(study: Any, tmp_path: Path) -> None:
    resolved = study(trials=20, protocol=PROTOCOL)
    assert [(cell.budget, cell.confirmation_runs) for cell in resolved.cells] == [(11, 9), (11, 9)]
    driver = run(resolved, tmp_path)
    assert Counter(job.split("@")[0] for job, _ in driver.order) == {"lwf": 20, "bic": 20}
    assert [row["runs"] for row in resolved.table()] == ["20", "20"]
    assert resolved.table()[0]["budget"] == "11 (of 20, 9 runs confirm)"


def test_runs_over_several_class_orders_and_seeds_count_in_the_budget(study: Any) -> None:
    (cell,) = study({"lwf": None}, trials=20, protocol={**PROTOCOL, "orders": 2, "seeds": 2}).cells
    assert cell.budget == 17  # 20 x 4 runs, less 9 of the confirmation
    assert cell.budget * 4 + 9 <= 20 * 4


def test_the_best_and_the_default_run_on_the_same_fresh_orders_one_after_another(
    study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None}, trials=20, protocol={**PROTOCOL, "orders": 2})
    driver = run(resolved, tmp_path)
    (cell,) = driver.cells.cells.values()
    best = sorted(
        (t for t in cell.trials.values() if t.number), key=lambda t: (-(t.objectives or (0,))[0], t.number)
    )[:2]
    numbers = [0, *(trial.number for trial in best)]
    orders = ["seed:2001", "seed:2002", "seed:2003"]
    assert confirming(driver) == [f"{LWF}/{n}/{CONFIRM}/{o}/s0" for o in orders for n in numbers]
    used = {order for count in (2, 1000) for order in resolved.orders(resolved.cells[0], count)}
    assert not used & set(orders)
    rows = [row for row in run_rows(tmp_path).values() if row["purpose"] == CONFIRM]
    assert {(row["split"], row["class_order"]) for row in rows} == {("val", order) for order in orders}


def test_an_own_class_order_of_the_same_name_is_left_out(study: Any) -> None:
    own = {"base": 0, "tasks": 5, "class_order": "seed:2002"}
    resolved = study({"lwf": None}, scenarios=[own], trials=20, protocol=PROTOCOL)
    assert resolved.confirmation_orders(resolved.cells[0]) == ["seed:2001", "seed:2003", "seed:2004"]


def test_a_default_that_the_search_has_no_trial_for_is_trained(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=20, start_from=[], protocol=PROTOCOL)
    driver = run(resolved, tmp_path)
    own = [job for job in confirming(driver) if job.startswith(f"{LWF}/{OWN_DEFAULT}/")]
    assert len(own) == 3
    row = run_rows(tmp_path)[own[0]]
    assert (row["hp.kd_weight"], row["hp.temperature"]) == (0.25, 2.0)


def test_a_killed_search_trains_every_run_once_and_the_same_ones(study: Any, tmp_path: Path) -> None:
    resolved = study(trials=14, protocol=PROTOCOL)
    straight = run(resolved, tmp_path / "straight")
    for jobs in (9, 12, 19, 27):
        folder = tmp_path / f"killed-{jobs}"
        first = run(resolved, folder, jobs)
        open_ = [job.id for job in first.open]
        first.cells.close()
        second = run(resolved, folder)
        done = [job for job, _ in first.order if job not in open_] + [job for job, _ in second.order]
        assert sorted(done) == sorted(job for job, _ in straight.order)
        assert SearchQueue(resolved, tmp_path / "straight", bases=False).finished if jobs == 9 else True


def test_a_lucky_trial_among_bad_ones_is_not_confirmed_in_place_of_the_best_region(
    study: Any, tmp_path: Path
) -> None:
    """Accuracy rises with the weight, and one trial at the low end has as much luck as that is worth."""
    lucky: list[float] = []

    def ending(spec: RunSpec) -> Ending:
        place = math.log(float(spec.configuration.hp["kd_weight"]) / 0.02) / math.log(400)  # 0 to 1
        if place < 0.3 and spec.trial and not lucky:
            lucky.append(place)
        noise = 0.005 * (crc32(f"{place}".encode()) % 7 - 3) / 3
        return "completed", 0.5 + 0.1 * place + noise + 0.12 * (place in lucky)

    lwf = {"lwf": {"kd_weight": {"float": [0.02, 8.0], "log": True}, "temperature": 2.0}}
    protocol = {"confirm": {"top": 1, "orders": 1}}
    driver = run(study(lwf, trials=32, sampler="random", protocol=protocol), tmp_path, ending=ending)
    (cell,) = driver.cells.cells.values()
    ranked = sorted(cell.trials.values(), key=lambda trial: trial.objectives or (0.0,))
    confirmed = int(confirming(driver)[1].split("/")[1])
    assert ranked[-1].number != confirmed
    assert float(cell.trials[confirmed].values["hp.kd_weight"]) > 0.5
    driver.cells.close()
    stored = Driver(SearchQueue(study(lwf, trials=32, protocol=protocol), tmp_path, bases=False), tmp_path)
    assert stored.cells.cells[LWF].picked == {"completed": 30, "top": 1, "trials": [confirmed]}


def test_more_trials_confirm_only_what_is_new_among_the_best(study: Any, tmp_path: Path) -> None:
    run(study({"lwf": None}, trials=14, protocol=PROTOCOL), tmp_path).cells.close()
    before = {run for run, row in run_rows(tmp_path).items() if row["purpose"] == CONFIRM}
    driver = run(study({"lwf": None}, trials=30, protocol=PROTOCOL), tmp_path)
    new = confirming(driver)
    assert not before & set(new)
    trials = {run.split("/")[1] for run in (*before, *new)}
    assert "0" in trials
    assert all(int(name.split("/")[1]) >= 5 for name in new)  # the first five trials were compared before


def test_a_failed_confirmation_is_tried_again_only_where_asked(study: Any, tmp_path: Path) -> None:
    def ending(spec: RunSpec) -> Ending:
        bad = spec.purpose == CONFIRM and spec.trial == 0
        return ("failed", None) if bad else ("completed", worth(spec))

    resolved = study({"lwf": None}, trials=14, protocol=PROTOCOL)
    run(resolved, tmp_path, ending=ending).cells.close()
    with SearchQueue(resolved, tmp_path, bases=False) as queue:
        assert queue.finished
    (cell,) = cells(open_results(tmp_path))
    assert cell.confirmation is not None
    assert not cell.confirmation.compared
    assert cell.confirmation.kept
    assert cell.selected_trial == 0
    assert cell.selected_digest == [run_rows(tmp_path)[f"{LWF}/0"]["trial_digest"]]
    again = Driver(SearchQueue(resolved, tmp_path, bases=False, retry_failed=True), tmp_path).run()
    assert [job for job, _ in again.order] == [f"{LWF}/0/{CONFIRM}/seed:200{k}/s0" for k in (1, 2, 3)]


def test_base_checkpoints_of_fresh_orders_come_first(study: Any, tmp_path: Path) -> None:
    resolved = begun(study({"lwf": None}, trials=14, protocol=PROTOCOL), tmp_path)
    driver = Driver(SearchQueue(resolved, tmp_path), tmp_path, concurrent=2).run()
    assert sum(job.startswith("base/") for job, _ in driver.order) == 4  # its own order and three fresh ones


def test_a_confirmation_may_begin_later_in_a_finished_folder(study: Any, tmp_path: Path) -> None:
    run(study({"lwf": None}, trials=6), tmp_path).cells.close()
    driver = run(study({"lwf": None}, trials=15, protocol=PROTOCOL), tmp_path)
    assert len(driver.order) == len(confirming(driver)) == 9


def test_progress_counts_the_runs_that_confirm_before_during_and_after(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=14, protocol=PROTOCOL)
    seen = []
    for jobs in (2, 5, None):
        driver = run(resolved, tmp_path, jobs)
        (live,), (read,) = driver.cells.progress(), read_progress(tmp_path)
        assert (live.to_confirm, live.confirmed) == (read.to_confirm, read.confirmed)
        seen.append((read.completed, read.confirmed, read.to_confirm))
        driver.cells.close()
    assert seen == [(2, 0, 9), (5, 2, 9), (5, 9, 9)]


def test_progress_knows_a_trial_with_the_values_of_a_default_that_is_none(study: Any, tmp_path: Path) -> None:
    lwf = {"lwf": {"kd_weight": {"choice": [0.25, 4.0]}, "temperature": {"choice": [2.0, 4.0]}}}
    grid = {"sampler": "grid", "start_from": [], "trials": 20}
    driver = run(study(lwf, **grid, protocol={"confirm": {"top": 4, "orders": 2}}), tmp_path)
    assert len(confirming(driver)) == 8  # the default, which is a point of the grid, and the three others
    (read,) = read_progress(tmp_path)
    assert (read.confirmed, read.to_confirm) == (8, 8)


def test_progress_counts_as_many_class_orders_as_the_study_has_now(study: Any, tmp_path: Path) -> None:
    run(study({"lwf": None}, trials=14, protocol=PROTOCOL), tmp_path).cells.close()
    driver = run(study({"lwf": None}, trials=8, protocol={"confirm": {"top": 2, "orders": 1}}), tmp_path)
    (live,), (read,) = driver.cells.progress(), read_progress(tmp_path)
    assert (read.confirmed, read.to_confirm) == (live.confirmed, live.to_confirm) == (3, 3)


def test_a_folder_with_more_trials_than_are_left_to_the_search_has_its_confirmation_to_do(
    study: Any, tmp_path: Path
) -> None:
    run(study({"lwf": None}, trials=14), tmp_path).cells.close()
    begun(study({"lwf": None}, trials=14, protocol=PROTOCOL), tmp_path)
    found = read_progress(tmp_path)
    assert (ended(found), total(found)) == (14, 14 + 9)
    assert ended_in_words(found, "trials") == "14/14 trials and 0/9 confirming runs ended"
    assert status(tmp_path)["left"] == {"trials": 0, "confirming runs": 9}
    assert any(
        "not working, 14 runs completed, 9 confirming runs left" in str(line) for line in show(tmp_path)
    )


def test_progress_counts_trials_as_failed_of_which_a_class_order_failed_later(
    study: Any, tmp_path: Path
) -> None:
    def ending(spec: RunSpec) -> Ending:
        return ("failed", None) if spec.trial % 2 and spec.purpose == "search" else ("completed", worth(spec))

    run(study({"lwf": None}, trials=20, protocol=PROTOCOL), tmp_path).cells.close()
    more = study({"lwf": None}, trials=20, protocol={**PROTOCOL, "orders": 2})
    driver = run(more, tmp_path, ending=ending)
    (live,), (read,) = driver.cells.progress(), read_progress(tmp_path)
    assert live == read
    assert read.failed


def test_a_paused_cell_is_not_confirmed_and_says_so(study: Any, tmp_path: Path) -> None:
    from search.jobs import steering

    resolved = study({"lwf": None}, trials=14, protocol=PROTOCOL)
    run(resolved, tmp_path, 5).cells.close()
    steering.pause(tmp_path, LWF)
    with SearchQueue(resolved, tmp_path, bases=False) as queue:
        assert queue.next() is None
        assert queue.finished
        assert queue.left == f"paused: {LWF}"


@pytest.mark.parametrize("gain", [0.2, 0.0])
def test_the_selected_trial_is_the_best_or_the_default(gain: float, study: Any, tmp_path: Path) -> None:
    """Trial 3 is better by `gain` everywhere; the search also sees luck of up to 0.05."""

    def ending(spec: RunSpec) -> Ending:
        luck = 0.05 * (spec.trial % 3) / 3 if spec.purpose == "search" else 0.0
        noise = 0.002 * (crc32(spec.run.encode()) % 5)
        return "completed", 0.4 + luck + noise + (gain if spec.trial == 3 else 0.0)

    run(study({"lwf": None}, trials=20, protocol=PROTOCOL), tmp_path, ending=ending)
    (cell,) = cells(open_results(tmp_path))
    assert cell.confirmation is not None
    assert cell.confirmation.kept == (gain == 0.0)
    assert cell.selected_trial == (3 if gain else 0)
    assert set(cell.selected["purpose"]) == {"search"}
    assert set(cell.selected["trial"]) == {cell.selected_trial}
