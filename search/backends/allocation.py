"""Allocation: the CPUs and GPUs of one run, and the number of runs at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cl_core.errors import BadRequest
from spaces.resolved.study import ResolvedStudy
from spaces.study.study import ResourcesPart

SHARE = 4  # runs that share a GPU by default


@dataclass(frozen=True)
class Allocation:
    """The resources of one run, the number of runs at a time, and the resources of the machine."""

    cpu: float
    gpu: float
    concurrent: int
    machine_cpus: int
    machine_gpus: int

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one run as Ray names them."""
        return {"CPU": self.cpu, "GPU": self.gpu}

    @property
    def threads(self) -> int:
        """The threads of torch in each worker: its CPUs."""
        return max(1, int(self.cpu))


def allocate(
    cpu: float | None, gpu: float | None, concurrent: int | None, cluster: bool = False
) -> Allocation:
    """Return the allocation of a study here. None means the default: one CPU a run, all GPUs shared, as many
    runs as fit.

    Raises BadRequest for resources that this machine does not have. With `cluster`, `check_cluster` does so.
    """
    cpus, gpus = machine_cpus(), machine_gpus()
    cpu = 1.0 if cpu is None else float(cpu)
    if cluster:
        return Allocation(cpu, float(gpu or 0.0), concurrent or 1_000, cpus, gpus)
    _at_most("cpu", cpu, cpus, "CPUs")
    fit = max(1, math.floor(cpus / cpu + 1e-9)) if cpu else cpus
    if gpu is None:
        wanted = min(concurrent or fit, SHARE * gpus) if gpus else 0
        gpu = 1.0 / math.ceil(wanted / gpus) if gpus else 0.0
    gpu = float(gpu)
    _at_most("gpu", gpu, gpus, "GPUs")
    if gpu:
        fit = min(fit, math.floor(1 / gpu + 1e-9) * gpus if gpu <= 1 else math.floor(gpus / gpu))
    if concurrent is not None and concurrent > fit:
        raise BadRequest(
            f"resources.concurrent = {concurrent} runs of cpu {cpu:g} and gpu {gpu:g} do not fit into "
            f"the {cpus} CPUs and {gpus} GPUs here; {fit} do: lower it, or leave it out for as many as fit"
        )
    return Allocation(cpu, gpu, concurrent or fit, cpus, gpus)


def keep_device(study: ResolvedStudy, new: Allocation, wanted: ResourcesPart) -> tuple[Allocation, list[str]]:
    """Return the allocation of a study that continues in its folder, and notes on it.

    The study keeps the device and threads that it was begun with, since both decide numbers. `new` is the
    allocation that `wanted` would get in a new folder. Raises BadRequest if the device is not here.
    """
    notes = []
    if new.threads != study.threads:
        notes.append(
            f"runs keep the number of threads ({study.threads}) of the folder: resources.cpu "
            f"{new.cpu:g} only decides how many run at a time"
        )
    if study.device == "cpu" and new.gpu:
        if wanted.gpu:
            raise BadRequest(
                f"resources.gpu must be 0 in a folder that was begun on the CPU, not {wanted.gpu:g}: set it "
                "to 0, or use another --out"
            )
        new = allocate(wanted.cpu, 0.0, wanted.concurrent)
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


def holds(allocation: Allocation, node: Mapping[str, float]) -> bool:
    """Tell whether a node with these resources can hold one run."""
    return all(node.get(kind, 0.0) >= share for kind, share in allocation.bundle.items())


def check_cluster(allocation: Allocation, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise BadRequest unless a node of the cluster can hold one run."""
    if any(holds(allocation, node) for node in nodes):
        return
    most = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU")}
    raise BadRequest(
        f"a node of the cluster must hold one run (cpu {allocation.cpu:g}, gpu {allocation.gpu:g}): the "
        f"largest has {most['CPU']:g} CPUs and {most['GPU']:g} GPUs. Set resources lower."
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
