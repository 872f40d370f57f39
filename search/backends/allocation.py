"""Allocation: the CPUs and GPUs of one run, and the number of runs at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cl_core.errors import BadRequest
from spaces.resolved.study import ResolvedStudy
from spaces.study.study import ResourcesPart

SHARE = 4  # runs that share a GPU by default


@dataclass(frozen=True)
class NodeResources:
    """A node: its resources as Ray names them, and its labels."""

    id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Allocation:
    """The resources of one run, and the number of runs that fit now, or that the study allows.

    `limit` bounds the runs at a time; None where a cluster decides, which may grow. `machine_cpus` and
    `machine_gpus` are those of this machine.
    """

    cpu: float
    gpu: float
    concurrent: int
    machine_cpus: int
    machine_gpus: int
    custom: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    together: bool = False  # runs on one GPU, or on one node without GPUs, train in one process
    waits: bool = False  # for nodes that an autoscaler brings

    @property
    def needs(self) -> str:
        """The resources and labels that a node must have to hold one run, in words."""
        shares = [f"{kind} {share:g}" for kind, share in self.bundle.items()]
        return ", ".join([*shares, *(f"label {name} {value}" for name, value in self.labels.items())])

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one run as Ray names them."""
        return {"CPU": self.cpu, "GPU": self.gpu, **self.custom}

    @property
    def threads(self) -> int:
        """The threads of torch in each worker: its CPUs."""
        return max(1, int(self.cpu))

    def fit(self, node: NodeResources) -> int:
        """Return how many runs fit on a node."""
        if any(node.labels.get(name) != value for name, value in self.labels.items()):
            return 0
        fit = math.inf
        for kind, share in self.bundle.items():
            if share:
                there = node.resources.get(kind, 0.0)
                if kind == "GPU" and share <= 1:  # a run's share lies on one GPU
                    fit = min(fit, math.floor(1 / share + 1e-9) * math.floor(there))
                else:
                    fit = min(fit, math.floor(there / share + 1e-9))
        return int(fit) if fit < math.inf else int(max(1.0, node.resources.get("CPU", 1.0)))


def allocate(
    wanted: ResourcesPart, nodes: Sequence[NodeResources] | None = None, packing: int | None = None
) -> Allocation:
    """Return the allocation of a study on this machine, or on the `nodes` of a cluster as it is now.

    The default is one CPU a run, all GPUs shared, as many runs as fit. `packing` runs share a GPU where
    `wanted` leaves that to a probe; None before it. Raises BadRequest for resources that this machine does
    not have, or that no node of the cluster has: with `concurrent` and `gpu` given, nodes may come later.
    """
    cpus, gpus = machine_cpus(), machine_gpus()
    cpu = 1.0 if wanted.cpu is None else float(wanted.cpu)
    least = Allocation(
        cpu,
        wanted.gpus,
        0,
        cpus,
        gpus,
        wanted.custom,
        wanted.labels,
        together=wanted.together is True,
        waits=nodes is not None and wanted.concurrent is not None and wanted.gpu not in (None, "auto"),
    )
    if nodes is None:
        _at_most("cpu", cpu, cpus, "CPUs")
        _at_most("gpu", least.gpu, gpus, "GPUs")
        _none_here(wanted)
        places = [NodeResources("", {"CPU": cpus, "GPU": gpus})]
    else:
        check_cluster(least, nodes)
        places = list(nodes)
    if wanted.gpu is None or (wanted.packed and wanted.gpu != 0):
        share = _share(replace(least, gpu=0.0), wanted.concurrent, places)
        least = replace(least, gpu=share or least.gpu)  # without a GPU yet, what the study gives
        if wanted.packed and packing is not None and least.gpu:
            least = replace(least, gpu=1.0 / packing, together=packing > 1)
    fit = sum(map(least.fit, places))
    if nodes is None and wanted.packed and wanted.concurrent is not None:
        wanted = wanted.model_copy(update={"concurrent": min(wanted.concurrent, fit)})
    if nodes is None and (wanted.concurrent or 0) > fit:
        raise BadRequest(
            f"resources.concurrent = {wanted.concurrent} runs of cpu {cpu:g} and gpu {least.gpu:g} do not "
            f"fit into the {cpus} CPUs and {gpus} GPUs here; {fit} do: lower it, or leave it out for as many "
            "as fit"
        )
    limit = wanted.concurrent or (fit if nodes is None else None)
    return replace(least, concurrent=wanted.concurrent or fit, limit=limit)


def _share(least: Allocation, concurrent: int | None, nodes: Sequence[NodeResources]) -> float:
    """Return the default share of a GPU: all GPUs are used, by `SHARE` runs each at most."""
    have = {node.id: math.floor(node.resources.get("GPU", 0.0)) for node in nodes if least.fit(node)}
    gpus = sum(have.values())
    if not gpus:
        return 0.0
    fit = sum(least.fit(node) for node in nodes if have.get(node.id))
    return 1.0 / math.ceil(min(concurrent or fit, SHARE * gpus) / gpus)


def keep_device(
    study: ResolvedStudy,
    new: Allocation,
    wanted: ResourcesPart,
    nodes: Sequence[NodeResources] | None = None,
) -> tuple[Allocation, list[str]]:
    """Return the allocation of a study that continues in its folder, and notes on it.

    The study keeps the device and threads that it was begun with, since both decide numbers. `new` is the
    allocation that `wanted` would get in a new folder, on `nodes` if there is a cluster. Raises BadRequest if
    the device is not here.
    """
    notes = []
    if new.threads != study.threads:
        notes.append(
            f"runs keep the number of threads ({study.threads}) of the folder: resources.cpu "
            f"{new.cpu:g} only decides how many run at a time"
        )
    if study.device == "cpu" and new.gpu:
        if wanted.gpus:
            raise BadRequest(
                f"resources.gpu must be 0 in a folder that was begun on the CPU, not {wanted.gpus:g}: set it "
                "to 0, or use another --out"
            )
        new = allocate(wanted.model_copy(update={"gpu": 0.0}), nodes)
        notes.append("runs stay on the CPU, where the folder was begun")
    if study.device == "cuda" and not new.gpu:
        raise BadRequest(
            "the folder was begun on a GPU, and a run gets none here: set resources.gpu on a machine "
            "that has one, or use another --out"
        )
    return new, notes


def random_search_notes(study: ResolvedStudy, concurrent: int) -> list[str]:
    """Return a note if the sampler cannot learn: too few trials, or all begin before one has ended."""
    search = study.study.search
    first = {"tpe": "n_startup_trials", "gp": "n_startup_trials", "nsga2": "population_size"}.get(
        search.sampler
    )
    searched = [cell.budget for cell in study.cells if cell.budget > 1]
    if first is None or not searched:
        return []
    trials, random = max(searched), int(search.sampler_args[first])
    if not search.sources and random >= trials:
        return [
            f"search.sampler {search.sampler} begins with {random} random trials a cell "
            f"(sampler_args.{first}), and a cell has {trials}: this is random search"
        ]
    # Cells advance in turn, so the running trials are spread evenly over them.
    at_once, random = math.ceil(concurrent / len(searched)), 0 if search.sources else random
    if at_once - 1 >= trials - random:
        return [
            f"search.sampler {search.sampler} learns from trials that have ended, but with {concurrent} runs "
            f"at a time over {len(searched)} cells {at_once} trials of a cell run at once, and "
            f"{trials - random} of its {trials} come after the {random} random ones: this is random search"
        ]
    return []


def check_cluster(allocation: Allocation, nodes: Sequence[NodeResources]) -> None:
    """Raise BadRequest unless a node of the cluster can hold one run, or nodes may come."""
    if allocation.waits or any(allocation.fit(node) for node in nodes):
        return
    kinds = ("CPU", "GPU", *allocation.custom)
    most = {kind: max((node.resources.get(kind, 0.0) for node in nodes), default=0.0) for kind in kinds}
    raise BadRequest(
        f"a node of the cluster must hold one run ({allocation.needs}): the largest has "
        f"{', '.join(f'{kind} {value:g}' for kind, value in most.items())}. Set resources lower, or give "
        "both resources.concurrent and resources.gpu to wait for nodes that an autoscaler brings."
    )


def _none_here(wanted: ResourcesPart) -> None:
    if wanted.custom or wanted.labels:
        name = "custom" if wanted.custom else "labels"
        raise BadRequest(
            f"resources.{name} names nodes of a cluster, and this machine works alone: set RAY_ADDRESS, or "
            "leave it out"
        )


def machine_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_gpus() -> int:
    """Return the number of GPUs that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _at_most(name: str, value: float, most: int, things: str) -> None:
    if value > most:
        raise BadRequest(
            f"resources.{name} = {value:g}, but there are {most} {things} here; ask for {most} at most"
        )
