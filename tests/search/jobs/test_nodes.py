"""Nodes that cannot train: their jobs go elsewhere, no run fails, and no row is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.lake.run_folder import run_file
from analysis.lake.run_rows import run_rows
from search.jobs.dispatcher import Dispatcher
from search.jobs.nodes import NoNodeLeft, left_out_nodes
from search.remote.token import token
from search.worker.job import UNFIT_NODE, Answer, Job, Node
from search.worker.worker import Worker
from tests.search.jobs_by_hand import StandIn, dispatching, jobs, one_job, workspace

BAD, GOOD = Node("bad", "bad.example"), Node("good", "good.example")


def _cluster(queue: StandIn, folder: Path) -> tuple[Dispatcher, list[str]]:
    said: list[str] = []
    driver = Dispatcher(queue, workspace(folder), say=said.append)  # type: ignore[arg-type]
    driver.nodes.alive = lambda: ["bad", "good"]
    return driver, said


def _step(driver: Dispatcher, job: Job | None, node: Node) -> Answer:
    assert job is not None
    answer = replace(Worker(job, driver.space).step(), node=node)
    driver.answer(answer)
    return answer


def _unfit(driver: Dispatcher) -> str:
    job = driver.next()
    assert job is not None
    driver.answer(Answer(job.id, -1, 0, (), UNFIT_NODE, "it has no images", node=BAD))
    return job.id


def test_a_job_goes_to_another_node_and_a_node_is_left_out_after_two(tmp_path: Path) -> None:
    queue = StandIn(jobs("0", "1"))
    driver, said = _cluster(queue, tmp_path)
    first = _unfit(driver)
    assert (driver.nodes.avoided(first), driver.nodes.avoided("another"), said) == (["bad"], [], [])
    again = driver.next()
    assert again is not None
    assert again.id == first
    driver.answer(Answer(first, 4, 5, (0.5,), "completed", node=GOOD))
    _unfit(driver)
    assert driver.nodes.avoided("another") == ["bad"]
    assert said == ["node bad.example cannot train: it has no images. It gets no further run."]
    assert left_out_nodes(tmp_path) == ["node bad.example cannot train: it has no images"]
    assert queue.told == [("done", first, "completed", None)]
    driver.nodes.begin()
    assert left_out_nodes(tmp_path) == []


def test_the_command_ends_where_no_node_can_train(tmp_path: Path) -> None:
    driver, _ = _cluster(StandIn(jobs("0")), tmp_path)
    driver.nodes.alive = lambda: ["bad"]
    with pytest.raises(NoNodeLeft, match=r"bad.example cannot train: it has no images \(and no other"):
        _unfit(driver)


def _looking(driver: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets the driver look at the nodes, at a second and with those alive then."""

    def look(second: float, *alive: str) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: second)
        driver.nodes.alive = lambda: alive
        driver.look()

    return look


def test_the_command_says_that_no_node_is_left_and_ends_where_none_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, said = _cluster(StandIn(jobs("0")), tmp_path)
    look = _looking(driver, monkeypatch)
    driver.nodes.patience = 60.0
    look(0, "good")
    look(10)
    look(40)
    assert said == ["no node is left that can hold a run: waiting 1 min for one"]
    look(65, "good")  # an autoscaler has brought one
    look(75)
    look(130)
    with pytest.raises(NoNodeLeft, match="Give the same command again"):
        look(136)
    assert isinstance(driver.aborted, NoNodeLeft)


def test_the_command_waits_for_the_first_node_of_an_autoscaler_and_ends_where_none_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, said = _cluster(StandIn(jobs("0")), tmp_path)
    look = _looking(driver, monkeypatch)
    driver.nodes.patience, driver.nodes.needs, driver.nodes.alive = 60.0, "CPU 1, GPU 0.5", tuple
    driver.nodes.begin()
    line = "the cluster has no node yet that can hold a run (CPU 1, GPU 0.5)"
    look(0)
    look(40)
    assert said == [f"{line}: waiting 1 min for one"]
    with pytest.raises(NoNodeLeft) as caught:
        look(65)
    assert str(caught.value).startswith(f"{line}. Give the same command again")
    look(70, "new")
    look(80)
    assert said[1:] == ["no node is left that can hold a run: waiting 1 min for one"]


def test_a_node_that_was_left_out_is_none_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, _ = _cluster(StandIn(jobs("0", "1")), tmp_path)
    for _ in range(2):
        _unfit(driver)
    driver.look()  # the good node is there
    driver.nodes.alive = lambda: ["bad"]
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(NoNodeLeft, match="left out"):
        driver.look()


def test_a_job_that_failed_on_the_only_node_left_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, said = _cluster(StandIn(jobs("0")), tmp_path)
    driver.nodes.patience, job = 60.0, _unfit(driver)

    def look(second: float, *alive: str) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: second)
        driver.nodes.alive = lambda: alive
        driver.look()
        driver.next()  # the job goes to Tune, and waits there

    look(0, "bad", "good")
    look(10, "bad")
    look(40, "bad", "new")
    look(50, "bad")
    line = f"no node is left that can train {job}, which failed on the others"
    assert said == 2 * [f"{line}: waiting 1 min for one"]
    look(109, "bad")
    with pytest.raises(NoNodeLeft, match=f"{line}. Give the same command again"):
        look(115, "bad")


def test_jobs_for_another_node_are_handed_back_when_the_budget_is_spent(tmp_path: Path) -> None:
    queue = StandIn(jobs("0"))
    driver, _ = _cluster(queue, tmp_path)
    job = _unfit(driver)
    queue.halted = True
    assert driver.next() is None
    assert queue.told == [("handed back", job)]


def test_rows_that_do_not_arrive_are_trained_again_on_another_node(tmp_path: Path) -> None:
    queue = StandIn(jobs("0"))
    driver, _ = _cluster(queue, tmp_path)
    with token(driver.space.folder, driver.space.checkpoints) as name:
        driver.space = replace(driver.space, token=name)
        job = driver.next()
        assert job is not None
        worker = Worker(job, driver.space)
        for _ in range(4):
            driver.answer(replace(worker.step(), node=BAD))
        last = replace(worker.step(), node=BAD)
        assert (last.status, last.receipt["tasks"][0]) == ("completed", 5)
        path = run_file(tmp_path, "tasks", job.id)
        path.write_bytes(path.read_bytes()[:-1])
        driver.answer(last)
        assert (queue.told[4:], run_rows(tmp_path)) == ([], {})
        assert driver.nodes.avoided(job.id) == ["bad"]
        worker = Worker(driver.next() or job, driver.space)
        for _ in range(5):
            driver.answer(replace(worker.step(), node=GOOD))
    assert run_rows(tmp_path)[job.id]["tasks_done"] == 5
    assert queue.told[-1] == ("done", job.id, "completed", None)
    assert not list(tmp_path.rglob(".driver-*"))


def test_a_node_without_the_folder_or_with_other_images_writes_nothing(tmp_path: Path) -> None:
    space = workspace(tmp_path / "driver")
    with token(space.folder, space.checkpoints) as name:
        there = replace(space, folder=tmp_path / "elsewhere", token=name)
        worker = Worker(one_job(), there)
        answer = worker.step()
        worker.close()
        assert (answer.status, answer.error) == (
            UNFIT_NODE,
            f"it does not see the driver's folder {tmp_path / 'elsewhere'}: mount that folder there under "
            "the same path",
        )
        assert not (tmp_path / "elsewhere").exists()
        other = replace(one_job(), fingerprint="f" * 64)
        answer = Worker(other, replace(space, token=name)).step()
        assert answer.status == UNFIT_NODE
        assert "its images of digits in its usual place" in str(answer.error)
    assert run_rows(space.folder) == {}
    assert dispatching(StandIn([]), tmp_path / "driver").finished
