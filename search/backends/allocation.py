"""What a study asks of the machine, and whether the machine can give it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cl_core.errors import BadRequest

if TYPE_CHECKING:
    from spaces.resolved.study import ResolvedStudy
    from spaces.study.study import ResourcesPart

SHARE = 4  # runs that share a GPU unless the study says otherwise


@dataclass(frozen=True)
class Plan:
    """Resources of one run, how many runs at a time, and what the machine has."""

    cpu: float
    gpu: float
    concurrent: int
    machine_cpus: int
    machine_gpus: int

    @property
    def threads(self) -> int:
        """Threads of torch in each worker: its CPUs."""
        return max(1, int(self.cpu))


def plan(cpu: float | None, gpu: float | None, concurrent: int | None, cluster: bool = False) -> Plan:
    """What a study gets here. None means the default: one CPU a run, all GPUs shared, as many runs as fit.

    Raises BadRequest for what this machine does not have; with `cluster` the check waits for `check_cluster`.
    """
    cpus, gpus = machine_cpus(), machine_gpus()
    cpu = 1.0 if cpu is None else float(cpu)
    if cluster:
        return Plan(cpu, float(gpu or 0.0), concurrent or 1_000, cpus, gpus)
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
    return Plan(cpu, gpu, concurrent or fit, cpus, gpus)


def kept(study: ResolvedStudy, planned: Plan, asked: ResourcesPart) -> tuple[Plan, list[str]]:
    """What a folder's study gets here on the device and with the threads that it was begun with, since both
    are part of a number; and what is to be said of it. `planned` is what `asked` would get. Raises
    BadRequest where that device cannot be had.
    """
    notes = []
    if planned.threads != study.threads:
        notes.append(
            f"a run keeps the number of threads that the folder was begun with, {study.threads}: "
            f"resources.cpu {planned.cpu:g} only says how many run at a time"
        )
    if study.device == "cpu" and planned.gpu:
        if asked.gpu:
            raise BadRequest(
                f"resources.gpu is {asked.gpu:g}, but the folder was begun on the CPU, and numbers of two "
                "devices may not be mixed: set it to 0, or use another --out"
            )
        planned = plan(asked.cpu, 0.0, asked.concurrent)
        notes.append("runs stay on the CPU, on which the folder was begun")
    if study.device == "cuda" and not planned.gpu:
        raise BadRequest(
            "the folder was begun on a GPU, and a run gets none here, where numbers of two devices may not "
            "be mixed: set resources.gpu on a machine that has one, or use another --out"
        )
    return planned, notes


def unguided(study: ResolvedStudy, concurrent: int) -> list[str]:
    """Where a sampler that learns would be random search, as notes: too few configurations to learn from, or
    all of them asked before the first has ended."""
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
            f"search.sampler {search.sampler} begins with {random} random configurations a cell "
            f"(sampler_args.{first}), and a cell has {trials}: this is random search"
        ]
    # Cells are asked in turn, so what is under way, and has told nothing yet, is spread evenly over them.
    at_once, random = math.ceil(concurrent / len(searched)), 0 if search.sources else random
    if at_once - 1 >= trials - random:
        return [
            f"search.sampler {search.sampler} learns from what has ended, but with {concurrent} runs at a "
            f"time over {len(searched)} cells {at_once} configurations of a cell are under way, and "
            f"{trials - random} of its {trials} come after the {random} random ones: this is random search"
        ]
    return []


def check_cluster(plan: Plan, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise BadRequest unless some node of the cluster can hold one run."""
    for node in nodes:
        if node.get("CPU", 0.0) >= plan.cpu and node.get("GPU", 0.0) >= plan.gpu:
            return
    most = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU")}
    raise BadRequest(
        f"no node can hold a run of cpu {plan.cpu:g} and gpu {plan.gpu:g}: the largest has {most['CPU']:g} "
        f"CPUs and {most['GPU']:g} GPUs; ask for less"
    )


def machine_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_gpus() -> int:
    """GPUs that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _at_most(name: str, value: float, most: int, things: str) -> None:
    if value > most:
        raise BadRequest(
            f"resources.{name} = {value:g}, but there are {most} {things} here; ask for {most} at most"
        )
