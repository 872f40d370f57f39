"""Tune's searcher and scheduler without a cluster."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.backends.allocation import Allocation
from search.worker.job import Answer
from tests.search.jobs_by_hand import RUN, StandIn, dispatching, jobs


@pytest.fixture
def tuner() -> Any:
    from search.backends import ray_tune as module

    return module


def test_the_searcher_holds_back_at_its_limit_and_ends_when_the_cells_do(tuner: Any, tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"))
    driver = dispatching(cells, tmp_path)
    with tuner.shared(driver) as key:
        searcher = tuner.JobSearcher(key, Allocation(1.0, 0.0, 1, 1, 0, limit=1))
        first = searcher.suggest("tune-a")
        assert first["job"].id == RUN
        assert searcher.suggest("tune-b") is None
        scheduler = tuner.JobScheduler(key)
        running = {"answer": Answer(RUN, 0, 5, (0.5,), "running")}
        completed = {"answer": Answer(RUN, 4, 5, (0.5,), "completed")}
        assert scheduler.on_trial_result(None, SimpleNamespace(config=first), running) == "CONTINUE"
        searcher.on_trial_complete("tune-a", completed)
        searcher.on_trial_complete("tune-a", completed)
        second = searcher.suggest("tune-b")
        searcher.on_trial_complete("tune-b", error=True)
        assert searcher.suggest("tune-c") == tuner.Searcher.FINISHED
    assert [told for told in cells.told if told[0] == "done"] == [
        ("done", RUN, "completed", None),
        ("done", second["job"].id, "failed", "the worker process died"),
    ]


def test_searcher_and_scheduler_survive_what_tune_does_to_them(tuner: Any, tmp_path: Path) -> None:
    cells = StandIn(jobs("0", "1"))
    with tuner.shared(dispatching(cells, tmp_path / "run")) as key:
        searcher, scheduler = (
            tuner.JobSearcher(key, Allocation(1.0, 0.0, 2, 2, 0, limit=2)),
            tuner.JobScheduler(key),
        )
        for again in (lambda part: pickle.loads(pickle.dumps(part)), copy.deepcopy):
            job = again(searcher).suggest("tune")["job"]
            answer = {"answer": Answer(job.id, 4, 5, (0.5,), "completed")}
            decision = again(scheduler).on_trial_result(None, SimpleNamespace(config={"job": job}), answer)
            assert decision == "CONTINUE"
            assert cells.told[-1] == ("done", job.id, "completed", None)
    for part in (searcher, scheduler):
        part.save(str(tmp_path / "state"))
        part.restore(str(tmp_path / "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_neither_the_death_of_a_node_nor_one_out_of_reach_is_a_failure_of_a_run(
    tuner: Any, tmp_path: Path
) -> None:
    from ray.exceptions import ActorUnavailableError

    def trial(*errors: str) -> SimpleNamespace:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        path.write_text(
            "".join(f"Failure # {n} (occurred at noon)\n{text}\n" for n, text in enumerate(errors))
        )
        return SimpleNamespace(config={"attempt": 0}, max_failures=2, error_file=str(path))

    gone = "The actor died because its node has died. Node Id: 0f"
    killed = trial(gone, "The actor died unexpectedly: the worker process was killed")
    lost = trial("The actor died unexpectedly: the worker process was killed", gone)
    far = trial(str(ActorUnavailableError("rpc error", None)))
    for each in (killed, lost, far):
        for _ in range(30):
            tuner.Attempts().on_trial_recover(0, [], each)
    assert (killed.config["attempt"], killed.max_failures) == (30, 2)
    assert (lost.config["attempt"], lost.max_failures) == (30, 22)
    assert (far.config["attempt"], far.max_failures) == (30, 22)
