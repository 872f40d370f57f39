"""The search without training: runs are simulated, drivers killed, folders grown."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock, Timeout

from analysis.lake.run_folder import JOURNAL, LOCK
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.storage.journal import open_file, read_file
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study_yaml import study_yaml
from tests.search.simulation import TASKS, TWO, Driver, Ending, ended, images, made, told, worth, write_row

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")


def test_every_cell_gets_its_budget_and_all_advance_together(study: Any, tmp_path: Path) -> None:
    resolved = study({**TWO, "finetune": None}, trials=6)
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    assert Counter(job.split("/")[0] for job, _ in driver.order) == {
        "lwf@B0-5tasks": 6,
        "bic@B0-5tasks": 6,
        "finetune@B0-5tasks": 1,
    }
    assert [job for job, _ in driver.order[:5]] == [
        "lwf@B0-5tasks/0",
        "bic@B0-5tasks/0",
        "finetune@B0-5tasks/0",
        "lwf@B0-5tasks/1",
        "bic@B0-5tasks/1",
    ]
    progress = driver.cells.progress()
    assert [(p.started, p.completed, p.running, p.failed) for p in progress] == [(6, 6, 0, 0)] * 2 + [
        (1, 1, 0, 0)
    ]


def test_published_defaults_come_first_and_only_where_asked_for(study: Any, tmp_path: Path) -> None:
    job = SearchQueue(study(), tmp_path / "a", bases=False).next()
    assert job is not None
    assert (job.spec.configuration.hp["kd_weight"], job.spec.configuration.hp["temperature"]) == (0.25, 2.0)
    other = SearchQueue(study(start_from=[]), tmp_path / "b", bases=False).next()
    assert other is not None
    assert other.spec.configuration.hp["kd_weight"] != 0.25


def test_cells_and_seeds_propose_different_points(study: Any, tmp_path: Path) -> None:
    twins = {"a": {"method": "lwf"}, "b": {"method": "lwf"}}
    seen = set()
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        driver = Driver(
            SearchQueue(study(twins, trials=3, seed=seed, start_from=[]), folder, bases=False), folder
        )
        seen |= {config for _, config in driver.run().order}
    assert len(seen) == 12


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("jobs", [0, 1, 13, 23])
def test_an_interrupted_run_asks_what_an_undisturbed_one_asks(
    sampler: str, jobs: int, study: Any, tmp_path: Path
) -> None:
    resolved = study(sampler=sampler)
    straight = Driver(SearchQueue(resolved, tmp_path / "straight", bases=False), tmp_path / "straight").run()
    folder = tmp_path / "killed"
    first = Driver(SearchQueue(resolved, folder, bases=False), folder).run(jobs)
    assert len(first.open) == 1
    under_way = first.open[0].id
    second = Driver(SearchQueue(resolved, folder, bases=False), folder).run()
    assert second.order[0][0] == under_way
    assert first.order[:-1] + second.order == straight.order
    for cell in resolved.cells:
        assert told(folder, cell.name) == told(tmp_path / "straight", cell.name)


def test_with_several_at_a_time_a_restart_loses_nothing_and_repeats_nothing(
    study: Any, tmp_path: Path
) -> None:
    resolved = study(trials=7)
    first = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path, concurrent=3).run(5)
    under_way = {job.id for job in first.open}
    second = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path, concurrent=3).run()
    assert {job for job, _ in second.order[:3]} == under_way
    ended = [pair for pair in first.order if pair[0] not in under_way] + second.order
    assert Counter(job for job, _ in ended).most_common(1)[0][1] == 1
    for cell in resolved.cells:
        assert [number for number, state, _ in told(tmp_path, cell.name) if state == "COMPLETE"] == list(
            range(7)
        )


def test_a_run_that_ended_before_the_driver_heard_of_it_is_not_repeated(study: Any, tmp_path: Path) -> None:
    resolved = study(trials=3)
    first = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path, concurrent=2)
    first.start()
    write_row(tmp_path, first.open[0].spec, "completed", 0.75)
    write_row(tmp_path, first.open[1].spec, "failed", None)
    second = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    assert not {job.id for job in first.open} & {job for job, _ in second.order}
    assert told(tmp_path, "lwf@B0-5tasks")[0] == (0, "COMPLETE", 0.75)
    assert told(tmp_path, "bic@B0-5tasks")[0] == (0, "FAIL", None)


def test_a_crash_at_any_byte_of_the_journal_is_survived(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=3)
    whole = tmp_path / "whole"
    expected = Driver(SearchQueue(resolved, whole, bases=False), whole).run().order
    journal = (whole / JOURNAL).read_bytes()
    for cut in range(1, len(journal), len(journal) // 12):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / JOURNAL).write_bytes(journal[:cut])
        order = Driver(SearchQueue(resolved, folder, bases=False), folder).run().order
        assert order == expected[len(expected) - len(order) :], cut
        assert [state for _, state, _ in told(folder, "lwf@B0-5tasks")] == ["COMPLETE"] * 3


def test_a_finished_run_has_nothing_to_do(study: Any, tmp_path: Path) -> None:
    resolved = study(trials=2)
    Driver(SearchQueue(resolved, tmp_path), tmp_path).run()
    before = (tmp_path / JOURNAL).read_bytes()
    again = SearchQueue(resolved, tmp_path)
    assert again.finished
    assert again.next() is None
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_a_failed_trial_counts_and_is_not_repeated_unless_asked_for(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=4)

    def fails_at_two(spec: RunSpec) -> Ending:
        return ("failed", None) if spec.trial == 2 else ("completed", worth(spec))

    first = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(ending=fails_at_two)
    (progress,) = first.cells.progress()
    assert (progress.started, progress.completed, progress.failed) == (4, 3, 1)
    assert SearchQueue(resolved, tmp_path).finished
    second = Driver(SearchQueue(resolved, tmp_path, retry_failed=True, bases=False), tmp_path).run()
    assert second.order == [first.order[2]]
    (progress,) = second.cells.progress()
    assert (progress.started, progress.completed, progress.failed) == (4, 4, 0)
    assert SearchQueue(resolved, tmp_path, retry_failed=True).finished


def test_a_run_that_failed_after_some_tasks_is_not_repeated_unless_asked_for(
    study: Any, tmp_path: Path
) -> None:
    resolved = study({"lwf": None}, trials=2)
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path)
    # Its row has values, which are those of the tasks that it finished.
    driver.run(ending=lambda spec: ("failed" if spec.trial else "completed", 0.5))
    assert SearchQueue(resolved, tmp_path).finished
    assert not SearchQueue(resolved, tmp_path, retry_failed=True).finished


def test_a_retry_that_is_interrupted_goes_on(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=2)
    Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(ending=lambda spec: ("failed", None))
    retry = Driver(SearchQueue(resolved, tmp_path, retry_failed=True, bases=False), tmp_path).run(0)
    assert [job.id for job in retry.open] == ["lwf@B0-5tasks/0"]
    second = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    assert [job for job, _ in second.order] == ["lwf@B0-5tasks/0", "lwf@B0-5tasks/1"]
    assert [state for _, state, _ in told(tmp_path, "lwf@B0-5tasks")] == ["COMPLETE"] * 2


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_no_number_fails_the_trial(value: float | None, study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study({"lwf": None}, trials=1), tmp_path, bases=False)
    job = cells.next()
    assert job is not None
    assert cells.report(job.id, 0, value) is False
    cells.done(ended(job.id, "completed", (value,), value))
    cells.done(ended(job.id, "completed", (0.5,), 0.5))  # told twice: the first one counts
    assert told(tmp_path, "lwf@B0-5tasks") == [(0, "FAIL", None)]
    assert cells.finished


def test_a_trial_that_was_killed_from_outside_keeps_its_reason(study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study({"lwf": None}, trials=1), tmp_path, bases=False)
    job = cells.next()
    assert job is not None
    cells.done(ended(job.id, "failed", error="the worker process died"))
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    (trial,) = optuna.load_study(study_name="lwf@B0-5tasks", storage=storage).trials
    assert trial.user_attrs["error"] == "the worker process died"


def test_a_grid_is_walked_once_with_the_defaults_first(study: Any, tmp_path: Path) -> None:
    methods = {"lwf": {"kd_weight": {"choice": [0.1, 0.25, 4]}, "temperature": {"choice": [1, 2]}}}
    resolved = study(methods, sampler="grid", trials=20)
    first = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(2)
    second = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    configs = [config for _, config in first.order[:-1] + second.order]
    assert len(set(configs)) == len(configs) == 6
    start = resolved.run_specs(resolved.cells[0], 0, resolved.cells[0].space.defaults())[0]
    assert configs[0] == start.trial_digest


def test_a_trial_is_told_the_mean_over_its_runs(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=2, protocol={"orders": 2, "seeds": 2})
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path, concurrent=3).run()
    runs = ["", "/natural/s1", "/seed:1/s0", "/seed:1/s1"]
    mine = [job for job, _ in driver.order if job.startswith("lwf@B0-5tasks/1")]
    assert mine == [f"lwf@B0-5tasks/1{suffix}" for suffix in runs]
    point = resolved.cells[0].space.defaults()
    specs = resolved.run_specs(resolved.cells[0], 0, point)
    assert len({worth(s) for s in specs}) > 1
    expected = sum(worth(s) for s in specs) / 4
    assert told(tmp_path, "lwf@B0-5tasks")[0] == (0, "COMPLETE", pytest.approx(expected))


def test_runs_of_one_trial_follow_one_another(study: Any, tmp_path: Path) -> None:
    cells = SearchQueue(study({"lwf": None}, trials=3, protocol={"seeds": 2}), tmp_path, bases=False)
    first, second = cells.next(), cells.next()
    assert first is not None
    assert second is not None
    assert [first.id, second.id] == ["lwf@B0-5tasks/0", "lwf@B0-5tasks/1"]
    cells.done(ended(first.id, "completed", (0.5,), 0.5))
    third = cells.next()
    assert third is not None
    assert third.id == "lwf@B0-5tasks/0/natural/s1"


def test_a_failed_run_fails_its_trial_at_once(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=1, protocol={"seeds": 3})
    fails = lambda spec: ("failed", None) if spec.configuration.seed == 1 else ("completed", 0.5)  # noqa: E731
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(ending=fails)
    assert len(driver.order) == 2
    assert told(tmp_path, "lwf@B0-5tasks") == [(0, "FAIL", None)]
    again = Driver(SearchQueue(resolved, tmp_path, retry_failed=True, bases=False), tmp_path).run()
    assert [job for job, _ in again.order] == ["lwf@B0-5tasks/0/natural/s1", "lwf@B0-5tasks/0/natural/s2"]


def test_a_failed_class_order_of_a_fixed_study_leaves_the_others(tmp_path: Path) -> None:
    data = dataclasses.replace(images(), test=images().train)
    protocol = {"select_on": "fixed", "orders": 4}
    resolved = made(data, {"lwf": None}, protocol=protocol, trials=1)
    fails = lambda spec: ("failed", None) if "seed:1" in spec.run else ("completed", 0.5)  # noqa: E731
    Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(2, ending=fails)  # killed here
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(ending=fails)
    assert [job for job, _ in driver.order] == [f"lwf@B0-5tasks/0/seed:{k}/s0" for k in (2, 3)]
    assert told(tmp_path, "lwf@B0-5tasks") == [(0, "FAIL", None)]
    (progress,) = driver.cells.progress()
    assert (progress.completed, progress.failed, progress.running) == (0, 1, 0)
    assert SearchQueue(resolved, tmp_path, bases=False).finished
    again = Driver(SearchQueue(resolved, tmp_path, retry_failed=True, bases=False), tmp_path).run()
    assert [job for job, _ in again.order] == ["lwf@B0-5tasks/0/seed:1/s0"]
    assert told(tmp_path, "lwf@B0-5tasks")[-1][1] == "COMPLETE"


def test_a_study_grows_by_trials_methods_scenarios_orders_and_seeds(study: Any, tmp_path: Path) -> None:
    small = study({"lwf": None}, trials=2)
    first = Driver(SearchQueue(small, tmp_path, bases=False), tmp_path).run()
    before = told(tmp_path, "lwf@B0-5tasks")
    large = study(TWO, ["B0-5tasks", "B4-inc2"], trials=3, protocol={"seeds": 2})
    second = Driver(SearchQueue(large, tmp_path, bases=False), tmp_path).run()
    names = [job for job, _ in first.order + second.order]
    assert len(set(names)) == len(names) == 4 * 3 * 2
    assert [job for job, _ in second.order[:2]] == [
        "lwf@B0-5tasks/0/natural/s1",
        "lwf@B0-5tasks/1/natural/s1",
    ]
    assert told(tmp_path, "lwf@B0-5tasks")[:2] == before  # what was told stays


def test_a_run_that_was_added_later_and_failed_is_counted_and_retried(study: Any, tmp_path: Path) -> None:
    Driver(SearchQueue(study({"lwf": None}, trials=1), tmp_path, bases=False), tmp_path).run()
    large = study({"lwf": None}, trials=1, protocol={"seeds": 2})
    driver = Driver(SearchQueue(large, tmp_path, bases=False), tmp_path).run(
        ending=lambda spec: ("failed", None)
    )
    (progress,) = driver.cells.progress()
    assert (progress.completed, progress.failed) == (0, 1)
    assert SearchQueue(large, tmp_path).finished
    retry = Driver(SearchQueue(large, tmp_path, retry_failed=True, bases=False), tmp_path).run()
    assert [job for job, _ in retry.order] == ["lwf@B0-5tasks/0/natural/s1"]
    (progress,) = retry.cells.progress()
    assert (progress.completed, progress.failed) == (1, 0)


def test_an_ask_that_a_crash_cut_short_does_not_count(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=2)
    SearchQueue(resolved, tmp_path, bases=False).close()
    torn = optuna.load_study(study_name="lwf@B0-5tasks", storage=open_file(tmp_path / JOURNAL))
    torn.ask()
    torn.enqueue_trial({"hp.kd_weight": 1.0})
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run()
    assert [job for job, _ in driver.order] == ["lwf@B0-5tasks/0", "lwf@B0-5tasks/1"]
    assert [state for _, state, _ in told(tmp_path, "lwf@B0-5tasks")] == ["COMPLETE"] * 2


def test_a_step_that_is_reported_again_is_kept_once(study: Any, tmp_path: Path) -> None:
    resolved = study({"lwf": None}, trials=1)
    first = SearchQueue(resolved, tmp_path, bases=False)
    job = first.next()
    assert job is not None
    first.report(job.id, 1, 0.9)
    second = SearchQueue(resolved, tmp_path, bases=False)
    again = second.next()
    assert again is not None
    assert again.id == job.id
    second.report(again.id, 1, 0.1)  # Optuna would warn, and warnings are errors here
    second.report(again.id, 2, 0.8)
    second.done(ended(again.id, "completed", (0.8,), 0.8))
    storage = read_file(tmp_path / JOURNAL)
    assert storage is not None
    (trial,) = optuna.load_study(study_name="lwf@B0-5tasks", storage=storage).trials
    assert trial.intermediate_values == {1: 0.9, 2: 0.8, 4: 0.8}


def test_a_stopper_stops_what_falls_behind_but_nobody_before_the_second_task(
    study: Any, tmp_path: Path
) -> None:
    for stopper in ("asha", "hyperband", "median"):
        folder = tmp_path / stopper
        cells = SearchQueue(study({"lwf": None}, trials=15, stopper=stopper), folder, bases=False)
        stops = []
        while (job := cells.next()) is not None:
            value = 1.0 - 0.05 * job.spec.trial  # each is worse than all before it
            for task in range(TASKS):
                if cells.report(job.id, task, value if task else None):
                    stops.append(task)
                    break
            cells.done(ended(job.id, "stopped" if task < TASKS - 1 else "completed", (value,), value))
        (progress,) = cells.progress()
        assert progress.stopped == len(stops) > 0, stopper
        assert progress.completed + progress.stopped == 15
        assert min(stops) >= 1
        assert max(stops) < TASKS - 1
        assert progress.best == 1.0


def test_progress_is_read_without_the_lock_and_without_the_data(study: Any, tmp_path: Path) -> None:
    resolved = study(trials=3)
    (tmp_path / "study.yaml").write_text(study_yaml(resolved))
    assert [(p.budget, p.started, p.best) for p in read_progress(tmp_path)] == [(3, 0, None)] * 2
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run(3)
    assert read_progress(tmp_path) == driver.cells.progress()
    with pytest.raises(BadRequest, match="not a run folder"):
        read_progress(tmp_path / "elsewhere")


def test_closing_gives_the_folder_back(study: Any, tmp_path: Path) -> None:
    other = FileLock(tmp_path / LOCK, blocking=False)
    with SearchQueue(study(trials=1), tmp_path) as cells, pytest.raises(Timeout):
        other.acquire()
    with other:
        cells.close()  # a second time: nothing is left to give back


def test_device_and_threads_of_a_resolved_study_reach_the_runs(study: Any, tmp_path: Path) -> None:
    resolved = dataclasses.replace(study(trials=1), device="cpu", threads=2)
    job = SearchQueue(resolved, tmp_path, bases=False).next()
    assert job is not None
    assert (job.spec.configuration.device, job.spec.configuration.threads) == ("cpu", 2)
