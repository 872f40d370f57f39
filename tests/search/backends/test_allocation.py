"""Tests of the allocation: the share of a machine or a cluster that each run gets."""

from __future__ import annotations

import pytest

from cl_core.errors import BadRequest
from search.backends import allocation


def test_as_many_runs_as_fit_unless_the_study_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 8)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 0)
    assert allocation.allocate(None, None, None) == allocation.Allocation(1.0, 0.0, 8, 8, 0)
    assert allocation.allocate(3, None, None).concurrent == 2
    assert allocation.allocate(3, None, 1).concurrent == 1
    assert allocation.allocate(0.5, None, None).concurrent == 16
    assert allocation.allocate(0.5, None, None).threads == 1


def test_gpus_are_shared_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 16)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 2)
    plan = allocation.allocate(None, None, None)
    assert (plan.gpu, plan.concurrent) == (0.25, 8)
    assert allocation.allocate(None, None, 3).gpu == 0.5
    assert allocation.allocate(None, 1, None).concurrent == 2
    assert allocation.allocate(None, 2, None).concurrent == 1
    assert allocation.allocate(None, 0, None).concurrent == 16


@pytest.mark.parametrize(
    ("cpu", "gpu", "concurrent", "says"),
    [
        (9, None, None, "resources.cpu = 9, but there are 8 CPUs here; ask for 8 at most"),
        (1, 1, None, "resources.gpu = 1, but there are 0 GPUs here"),
        (4, None, 3, "3 runs of cpu 4 and gpu 0 do not fit into the 8 CPUs and 0 GPUs here; 2 do"),
    ],
)
def test_what_the_machine_has_not_is_a_bad_request(
    monkeypatch: pytest.MonkeyPatch, cpu: float, gpu: float | None, concurrent: int | None, says: str
) -> None:
    monkeypatch.setattr(allocation, "machine_cpus", lambda: 8)
    monkeypatch.setattr(allocation, "machine_gpus", lambda: 0)
    with pytest.raises(BadRequest, match=says):
        allocation.allocate(cpu, gpu, concurrent)


def test_a_cluster_needs_one_node_that_holds_a_run() -> None:
    plan = allocation.Allocation(4.0, 1.0, 100, 2, 0)
    allocation.check_cluster(plan, [{"CPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}])
    with pytest.raises(BadRequest, match="the largest has 8 CPUs and 1 GPUs"):
        allocation.check_cluster(plan, [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}])
