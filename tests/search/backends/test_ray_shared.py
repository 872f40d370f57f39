"""The processes that runs share, without Ray: one for each GPU, and no attempt beside an earlier one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from search.backends import ray_shared, ray_trainable
from search.backends.ray_trainable import TaskTrainable


class Remote:
    """A method of an actor, whose answer is there at once."""

    def __init__(self, method: Any) -> None:
        self.remote = method


def test_runs_that_begin_at_once_get_one_process_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def slowly(gpu: str) -> object:
        time.sleep(0.05)
        made.append(gpu)
        return SimpleNamespace(here=Remote(lambda: True))

    place = SimpleNamespace(remote=slowly)
    monkeypatch.setattr(ray_shared, "SharedProcess", SimpleNamespace(options=lambda **options: place))
    monkeypatch.setattr(ray_shared, "NodeAffinitySchedulingStrategy", lambda node, soft: node)
    monkeypatch.setattr(ray_shared, "ray", SimpleNamespace(get=lambda answer, timeout: answer))
    actor: Any = ray_shared.SharedProcesses
    processes = actor.__ray_metadata__.modified_class()
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda gpu: processes.on("node", gpu), "000111"))
    assert sorted(made) == ["0", "1"]
    assert len(set(map(id, got))) == 2
    assert set(map(id, processes.known())) == set(map(id, got))


def test_a_further_attempt_begins_when_shared_processes_have_closed_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []

    def dead(job: str) -> None:
        raise RayActorError

    known = [SimpleNamespace(close=Remote(dead)), SimpleNamespace(close=Remote(done.append))]
    owner = SimpleNamespace(known=Remote(lambda: known))
    fake = SimpleNamespace(get=lambda answer: answer, get_actor=lambda name: owner)
    here = SimpleNamespace(get_node_id=lambda: "node")
    util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.1")
    monkeypatch.setattr(ray_shared, "ray", fake)
    monkeypatch.setattr(ray_trainable, "ray", SimpleNamespace(get_runtime_context=lambda: here, util=util))
    monkeypatch.setattr(ray_trainable, "end_with_raylet", lambda: None)
    monkeypatch.setattr(ray_trainable, "Worker", lambda job, space, attempt: done.append(attempt))
    trainable = TaskTrainable.__new__(TaskTrainable)
    config = {"job": SimpleNamespace(id="lwf@x/0"), "space": None, "attempt": 1, "processes": "owner"}
    trainable.setup(config)
    assert done == ["lwf@x/0", 1]
