"""What a protocol asks of a study's cells taken together, and of the images that choices are judged on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.recipe import recipe_dict
from cl_core.training import chf, shared_base
from cl_core.training.checks import check
from spaces.study.protocol import evaluated

if TYPE_CHECKING:
    from spaces.resolved.cell import Cell
    from spaces.resolved.study import ResolvedStudy


def check_shared_base(study: ResolvedStudy) -> None:
    """Raise BadRequest where shared-base would not have one first task: what decides it is searched, or
    labels differ in it."""
    if study.study.protocol.select_on != "shared-base":
        return
    said = "protocol.select_on shared-base has one first task for all methods, but"
    known: dict[str, tuple[str, dict[str, Any]]] = {}  # scenario -> a label, and what decides its first task
    for cell in study.cells:
        for p in cell.space.searched:
            kind, part, *_ = p.name.split(".")
            if kind == "recipe" and part != "increment":
                raise BadRequest(
                    f"{said} {p.name}, which decides it, is searched for {cell.label}: fix it, or search it "
                    "under recipe.increment"
                )
        mine = _first_task(study, cell)
        label, theirs = known.setdefault(cell.scenario.name, (cell.label, mine))
        for name, value in mine.items():
            if theirs[name] != value:
                raise BadRequest(
                    f"{said} {name} is {theirs[name]} for {label} and {value} for {cell.label}: make them "
                    "the same, and write what is to differ under recipe.increment"
                )


def _first_task(study: ResolvedStudy, cell: Cell) -> dict[str, Any]:
    order, seed = study.runs(cell)[0]
    configuration = study.configuration(cell, cell.space.defaults(), order, seed)
    recipe, _ = configuration.recipes(study.data, METHODS[configuration.method](configuration.hp))
    plain: dict[str, Any] = {f"recipe.{name}": value for name, value in recipe_dict(recipe).items()}
    return {**plain, "recipe.net": configuration.net or study.data.net, "recipe.init": configuration.init}


def without_effect(study: ResolvedStudy) -> list[str]:
    """Where the protocol finds nothing to act on; one line each."""
    protocol, out, shared = study.study.protocol, [], []
    for cell in study.cells:
        order, seed = study.runs(cell)[0]
        configuration = study.configuration(cell, cell.space.defaults(), order, seed)
        method = METHODS[configuration.method](configuration.hp)
        if protocol.first == len(cell.sizes):
            out.append(f"protocol.first {protocol.first} is all tasks of {cell.scenario.name}: as validation")
        if protocol.chf is not None and (said := chf.idle(method, configuration.hp)):
            out.append(f"{cell.label}: {said}")
        if protocol.select_on == "shared-base":
            shared.append(shared_base.idle(method) is not None)
    if shared and all(shared):
        out.append("shared-base changes nothing: the first task of every method is the plain one")
    return out


def check_judged(study: ResolvedStudy, judged: Data) -> None:
    """Raise BadRequest where a choice could not be trained on the images that choices are judged on."""
    for cell in study.cells:
        if cell.seeks:  # a class order is no choice for other data
            continue
        order, seed = study.runs(cell)[0]
        configuration = study.configuration(cell, cell.space.defaults(), order, seed)
        final = evaluated(configuration, "final", study.study.judging_data)
        try:
            check(replace(final, unsealed=False), judged, measured=False)
        except BadRequest as error:
            raise BadRequest(f"{cell.name} on the {judged.num_classes} classes judged on: {error}") from None
