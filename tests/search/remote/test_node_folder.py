"""Workers on other machines: they share nothing with the driver but the object store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import equal
from search.backends.local import run_local
from search.remote.object_store import ObjectStore
from search.remote.token import token
from search.remote.working_copy import run_folder, working_in
from search.worker.job import NO_STORAGE, UNFIT_NODE
from search.worker.node_folder import at_stores, on_node
from search.worker.worker import Worker
from tests.search.jobs_by_hand import StandIn, dispatching, jobs, one_job, workspace


@pytest.mark.usefixtures("machine")
def test_rows_of_workers_elsewhere_reach_the_driver_through_the_store(bucket: str, tmp_path: Path) -> None:
    folder = run_folder(f"{bucket}/x")
    with working_in(folder):
        driver = dispatching(StandIn(jobs("0", "1"), stop_at=("finetune@B0-5tasks/0", 1)), folder)
        driver.space = at_stores(driver.space)
        with token(folder) as name:
            driver.space = replace(driver.space, token=name)
            run_local(driver)
        elsewhere = on_node(driver.space).folder
        assert elsewhere != folder
        assert not list(elsewhere.glob("tables/*/finetune*"))  # ended runs leave it
    run_local(dispatching(StandIn(jobs("0", "1"), stop_at=("finetune@B0-5tasks/0", 1)), tmp_path / "disk"))
    assert equal(run_folder(f"{bucket}/x"), tmp_path / "disk")
    there = [found.name for found in ObjectStore(f"{bucket}/x").list()]
    assert not [name for name in there if "resume" in name or ".running" in name or ".driver-" in name]
    assert len([name for name in there if name.startswith("checkpoints/")]) == 1


@pytest.mark.usefixtures("machine")
def test_a_run_is_continued_on_another_node_where_its_worker_died(bucket: str, tmp_path: Path) -> None:
    folder = run_folder(f"{bucket}/x")
    with working_in(folder):
        space = at_stores(workspace(folder))
        first = Worker(one_job(), space)
        assert first.step().status == first.step().status == "running"  # it dies here
        second = Worker(one_job(), space, attempt=1)
        assert second.step().task == 1  # it resumes after the second task
        while not second.step().done:
            pass


def test_a_node_that_does_not_reach_the_store_is_unfit(bucket: str, machine: Callable[[str], Path]) -> None:
    folder = run_folder(f"{bucket}/x")
    space = replace(at_stores(workspace(folder)), token=".driver-never-written")
    answer = Worker(one_job(), space).step()
    assert answer.status == UNFIT_NODE
    assert f"does not see the driver's folder {bucket}/x" in (answer.error or "")


def test_a_store_that_goes_away_is_no_failure_of_a_run(
    bucket: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.remote.object_store.REPEATED", 0.3)
    space = workspace(run_folder(f"{bucket}/x"))
    worker = Worker(one_job(), space)
    assert worker.step().status == "running"

    def away(*given: object, **named: object) -> object:
        raise OSError("it is away")

    with monkeypatch.context() as patched:
        patched.setattr("obstore.put", away)
        assert worker.step().status == NO_STORAGE
    again = Worker(one_job(), space)
    assert again.step().task == 0
    while not again.step().done:
        pass
