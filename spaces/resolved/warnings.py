"""Warnings: valid settings that are probably not intended. Notes: what to know about the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cl_core.hparams import hparams
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.training import adaptive, chf, shared_base
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.scenario_axis import number_of_splits


def notes_of(data: Data) -> list[str]:
    """Return what to know about the images, one line each."""
    if data.test is not None:
        return [*data.notes]
    lacks = f"data set {data.name!r} has no test split, which `evaluate` needs"
    return [*data.notes, f"{lacks}. Add one now: a run folder cannot change its images later."]


def warnings_of(study: ResolvedStudy) -> list[str]:
    """Return valid settings that are probably not intended, one line each."""
    found = [*_of_protocol(study), *_without_effect(study)]
    for cell in study.cells:
        found += [*_of_label(study, cell), *_of_order_search(study, cell), *_of_search(study, cell)]
    return list(dict.fromkeys(found))


def _of_protocol(study: ResolvedStudy) -> Iterator[str]:
    protocol, trials = study.study.protocol, study.study.search.trials
    if protocol.select_on == "oracle-test":
        yield f"{protocol.label}: an upper bound, not a result; its numbers are labelled everywhere"
    if protocol.inside_runs and trials > 1:
        yield f"search.trials {trials} is not used: under {protocol.select_on} a cell has one trial"


def _without_effect(study: ResolvedStudy) -> Iterator[str]:
    """Yield where the protocol finds nothing to act on."""
    protocol, idle = study.study.protocol, []
    for cell in study.cells:
        configuration = study.first_run(cell)
        method = METHODS[cell.method](configuration.hp)
        if protocol.first == len(cell.sizes):
            yield f"protocol.first {protocol.first} is all tasks of {cell.scenario.name}: same as validation"
        if protocol.chf is not None and (line := chf.idle(method, configuration.hp)):
            yield f"{cell.label}: {line}"
        if protocol.adaptive is not None and (line := adaptive.idle(method, len(cell.adapted.searched))):
            yield f"{cell.label}: {line}"
        if protocol.select_on == "shared-base":
            idle.append(shared_base.idle(method) is not None)
    if idle and all(idle):
        yield "shared-base changes nothing: every method already has the plain first task"


def _of_label(study: ResolvedStudy, cell: Cell) -> Iterator[str]:
    for name, given in study.study.methods[cell.label].hp.items():
        if isinstance(given, Mapping) and study.study.left_to_chf(cell.label, name):
            yield f"{cell.label}: the domain of {name} is not used: chf chooses it task by task"
    for name, branch in cell.space.inert.items():
        yield f"{cell.label}: {name} has no effect and is left out: it acts only where {branch}"


def _of_order_search(study: ResolvedStudy, cell: Cell) -> Iterator[str]:
    if not cell.seeks:
        return
    if (stopper := study.study.search.stopper) != "none":
        yield (
            f"{cell.name}: search.stopper {stopper} is not used: an order that falls behind may be the one "
            "that is sought"
        )
    if (splits := number_of_splits(cell.sizes)) < cell.budget:
        yield (
            f"{cell.name}: search.trials {cell.budget} is more than the {splits} splits that differ: some "
            "are run again"
        )


def _of_search(study: ResolvedStudy, cell: Cell) -> Iterator[str]:
    search = study.study.search
    if search.reuse and cell.budget > 1 and not cell.answers and search.sampler != "grid" and not cell.seeks:
        names = [name for name, param in hparams(METHODS[cell.method].HP).items() if param.answers]
        if names:
            yield (
                f"{cell.label}: search.reuse adds no trials, because nothing that only answers is searched: "
                f"give {names[0]} a choice"
            )
    if "paper" in search.start_from:
        for name, published, taken in cell.space.moved:
            yield (
                f"{cell.label}: the published {name} = {published} is outside the space: the first trial "
                f"takes {taken}"
            )
    if search.sampler == "nsga2" and cell.space.conditional:
        yield f"{cell.label}: {cell.space.conditional[0]} acts only in a branch: nsga2 draws it at random"
    memory = [p.name for p in cell.space.searched if p.name.startswith("hp.exemplars_")]
    if memory and all("accuracy" in name for name in study.objectives):
        yield (
            f"{cell.label}: {memory[0]} is searched for accuracy alone: the largest wins by construction; "
            "add kept_bytes to search.objective"
        )
