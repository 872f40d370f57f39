"""Tests of the allocation: the share of a machine or a cluster that each run gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from cl_core.errors import BadRequest
from search.backends import allocation
from search.backends.allocation import NodeResources, allocate
from spaces.study.study import ResourcesPart


def node(name: str, labels: dict[str, str] | None = None, **resources: float) -> NodeResources:
    return NodeResources(name, resources, labels or {})


def wanted(
    cpu: float | None = None, gpu: float | None = None, concurrent: int | None = None
) -> ResourcesPart:
    return ResourcesPart(cpu=cpu, gpu=gpu, concurrent=concurrent)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def has(cpus: int, gpus: int) -> None:
        monkeypatch.setattr(allocation, "machine_cpus", lambda: cpus)
        monkeypatch.setattr(allocation, "machine_gpus", lambda: gpus)

    return has


Machine = Callable[[int, int], None]


def test_as_many_runs_as_fit_unless_the_study_says_otherwise(machine: Machine) -> None:
    machine(8, 0)
    assert allocate(wanted()) == allocation.Allocation(1.0, 0.0, 8, 8, 0, limit=8)
    assert allocate(wanted(3)).concurrent == 2
    assert allocate(wanted(3, None, 1)).concurrent == 1
    assert allocate(wanted(0.5)).concurrent == 16
    assert allocate(wanted(0.5)).threads == 1


def test_gpus_are_shared_by_default(machine: Machine) -> None:
    machine(16, 2)
    plan = allocate(wanted())
    assert (plan.gpu, plan.concurrent) == (0.25, 8)
    assert allocate(wanted(concurrent=3)).gpu == 0.5
    assert allocate(wanted(gpu=1)).concurrent == 2
    assert allocate(wanted(gpu=2)).concurrent == 1
    assert allocate(wanted(gpu=0)).concurrent == 16


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (wanted(9), "resources.cpu = 9, but there are 8 CPUs here; ask for 8 at most"),
        (wanted(1, 1), "resources.gpu = 1, but there are 0 GPUs here"),
        (wanted(4, None, 3), "3 runs of cpu 4 and gpu 0 do not fit into the 8 CPUs and 0 GPUs here; 2 do"),
        (ResourcesPart(custom={"a100": 1}), "resources.custom names nodes of a cluster"),
    ],
)
def test_what_the_machine_has_not_is_a_bad_request(machine: Machine, given: ResourcesPart, says: str) -> None:
    machine(8, 0)
    with pytest.raises(BadRequest, match=says):
        allocate(given)


def test_the_defaults_of_a_cluster_use_all_its_gpus_and_set_no_limit(machine: Machine) -> None:
    machine(2, 0)
    small, large = node("small", CPU=4.0, GPU=1.0), node("large", CPU=64.0, GPU=8.0)
    plan = allocate(wanted(), [node("head", CPU=8.0), small, large])
    assert (plan.gpu, plan.concurrent, plan.limit) == (0.25, 4 + 32, None)
    assert [plan.fit(n) for n in (node("head", CPU=8.0), small, large)] == [0, 4, 32]
    assert allocate(wanted(gpu=1), [small, large]).concurrent == 1 + 8
    assert allocate(wanted(cpu=4), [small, large]).gpu == 0.5  # one run on the small node, eight on the large
    plan = allocate(wanted(concurrent=3), [node("head", CPU=8.0)])
    assert (plan.gpu, plan.concurrent, plan.limit) == (0.0, 3, 3)


def test_custom_resources_and_labels_choose_the_nodes_of_a_cluster(machine: Machine) -> None:
    machine(2, 0)
    nodes = [node("a", CPU=8.0, a100=1.0), node("b", {"zone": "west"}, CPU=8.0)]
    plan = allocate(ResourcesPart(custom={"a100": 0.25}), nodes)
    assert (plan.concurrent, plan.bundle) == (4, {"CPU": 1.0, "GPU": 0.0, "a100": 0.25})
    assert allocate(ResourcesPart(labels={"zone": "west"}), nodes).concurrent == 8
    with pytest.raises(BadRequest, match=r"must hold one run \(CPU 1, GPU 0, label zone east\)"):
        allocate(ResourcesPart(labels={"zone": "east"}), nodes)
    with pytest.raises(ValidationError, match="other resources than cpu and gpu"):
        ResourcesPart(custom={"GPU": 1.0})
    with pytest.raises(ValidationError, match="must have values of letters"):
        ResourcesPart(labels={"zone": "!in(a)"})


def test_a_study_that_gives_concurrent_and_gpu_may_wait_for_nodes(machine: Machine) -> None:
    machine(2, 0)
    head = [node("head", CPU=0.0)]
    plan = allocate(wanted(gpu=0.5, concurrent=6), head)
    assert (plan.waits, plan.gpu, plan.concurrent, plan.limit) == (True, 0.5, 6, 6)
    allocation.check_cluster(plan, head)
    for given in (wanted(), wanted(concurrent=6), wanted(gpu=1)):
        with pytest.raises(BadRequest, match=r"give both resources.concurrent and resources.gpu to wait"):
            allocate(given, head)
    assert not allocate(wanted(gpu=0, concurrent=2)).waits  # this machine alone gets no other node
    found_by_a_probe = ResourcesPart(gpu=1, together="auto", concurrent=6)
    assert allocate(found_by_a_probe, head).gpu == 1  # never the CPU because no GPU has come yet
    assert allocate(found_by_a_probe, head, packing=4).gpu == 0.25


def test_a_cluster_needs_one_node_that_holds_a_run() -> None:
    plan = allocation.Allocation(4.0, 1.0, 100, 2, 0)
    allocation.check_cluster(plan, [node("a", CPU=2.0), node("b", CPU=4.0, GPU=1.0)])
    with pytest.raises(BadRequest, match="the largest has CPU 8, GPU 1"):
        allocation.check_cluster(plan, [node("a", CPU=8.0), node("b", CPU=2.0, GPU=1.0)])
