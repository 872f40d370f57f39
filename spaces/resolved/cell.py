"""A cell: one label on one scenario, its space and its budget, checked on the data."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_core.errors import BadRequest
from cl_core.hparams import Choice
from cl_core.images.dataset import Data
from cl_core.recipe import PARTS
from cl_core.scenarios.scenarios import ScenarioSpec
from spaces.space.answers import answering
from spaces.space.method_space import space_of
from spaces.space.scenario_axis import check_order_search, order_space, seeks
from spaces.space.space import Parameter, Space
from spaces.space.task_space import task_space
from spaces.study.confirmation import ConfirmPart
from spaces.study.protocol import ProtocolPart, check_protocol
from spaces.study.strategies import check_objectives, check_sampler, check_stopper
from spaces.study.study import Entry, Study

NOTHING = Space(())


@dataclass(frozen=True)
class Cell:
    """One label on one scenario. `budget` counts the trials that the search proposes.

    `note` says why they are fewer than the study's.
    """

    name: str
    label: str
    method: str
    scenario: ScenarioSpec
    space: Space
    budget: int
    note: str
    sizes: tuple[int, ...]  # classes of each task
    init: str | None = None
    until: int | None = None  # the number of tasks that the search trains, if not all
    confirm: ConfirmPart | None = None  # the confirmation of the selection, if there is one
    adapted: Space = NOTHING  # searched again at every task, by the protocol adaptive
    answers: tuple[Parameter, ...] = ()  # parameters whose other values reuse the training of a trial

    @property
    def tasks(self) -> int:
        """The number of tasks that a run of the search trains."""
        return self.until or len(self.sizes)

    @property
    def seeks(self) -> str:
        """The class order that is searched, hardest or easiest; empty if hyperparameters are."""
        return seeks(self.scenario)

    def nets(self, data: Data) -> tuple[str, ...]:
        """Return every network that a run may have: the searched ones, the fixed one, or the data set's."""
        known = {p.name: p for p in self.space.parameters}.get("recipe.net")
        if known is None:
            return (data.net,)
        return tuple(map(str, known.domain.options if isinstance(known.domain, Choice) else (known.default,)))

    @property
    def reused(self) -> int:
        """The number of further trials that share the training of each proposed one."""
        return math.prod(len(p.domain.options) for p in self.answers if isinstance(p.domain, Choice)) - 1

    @property
    def confirmation_runs(self) -> int:
        """The number of runs that confirm the selection, at most."""
        return self.confirm.runs if self.confirm else 0

    @property
    def searched(self) -> str:
        """The searched space in words."""
        if self.adapted.searched:
            return f"{self.adapted}, at every task"
        return f"class orders, for the {self.seeks}" if self.seeks else str(self.space)


def cell_of(study: Study, label: str, entry: Entry, scenario: ScenarioSpec, data: Data) -> Cell:
    """Return the cell of a label and a scenario on `data`. Raises BadRequest."""
    recipe = _merged(study.recipe, entry.recipe)
    space = space_of(
        entry.method,
        entry.hp,
        recipe,
        data_recipe=data.recipe,
        data_net=data.net,
        where=f"methods.{label}",
    )
    sizes = scenario.sizes(data.num_classes)
    search = study.search
    protocol = study.protocol
    tasks = check_protocol(protocol, search.stopper, scenario.name, len(sizes))
    check_objectives(search.objective, scenario.name, tasks)
    if seeks(scenario):
        # No stopper acts: an order that falls behind may be the one that is sought.
        check_order_search(scenario, sizes, search.sampler, search.objective)
        space = order_space(space, data.num_classes)
    else:
        check_stopper(search.stopper, search.stopper_args, scenario.name, tasks, protocol.orders)
    size = space.size()
    try:
        check_sampler(search.sampler, space)
    except BadRequest as error:
        raise BadRequest(f"{label}: {error}") from error
    init = recipe.get("init")
    if init is not None and not isinstance(init, str):
        raise BadRequest(f"recipe.init must be a text, not {init!r}: give the path of a safetensors file")
    budget, note, confirm, adapted = study.search.trials, "", None, NOTHING
    answers: tuple[Parameter, ...] = ()
    if protocol.adaptive is not None and not seeks(scenario):
        adapted = task_space(entry.method, space)
    if protocol.select_on == "fixed":
        _check_fixed(label, entry, space, scenario)
        space, budget, note = _fixed(space), 1, "nothing is selected"
    elif protocol.inside_runs:
        space, budget, note = _fixed(space), 1, "chosen task by task"
    elif size == 1:
        budget, note, confirm = 1, "nothing to search", _alone(protocol)
    else:
        if study.search.sampler == "grid" and size is not None and size < budget:
            budget, note = size, "the whole grid"
        if not seeks(scenario):
            budget, note, confirm = _with_confirmation(study, label, budget, note)
            if search.reuse and search.sampler != "grid":  # a grid has all values anyway
                answers = answering(entry.method, space)
    name = f"{label}@{scenario.name}"
    return Cell(
        name,
        label,
        entry.method,
        scenario,
        space,
        budget,
        note,
        tuple(sizes),
        init,
        protocol.first,
        confirm,
        adapted,
        answers,
    )


def _fixed(space: Space) -> Space:
    """Return the space with every parameter at its default."""
    fixed = tuple(p.fixed() for p in space.parameters)
    return dataclasses.replace(space, parameters=fixed, displaced=tuple(space.moved))


def _check_fixed(label: str, entry: Entry, space: Space, scenario: ScenarioSpec) -> None:
    """Raise BadRequest where a label or its scenario has something to search, but nothing is selected."""
    ranges = [name for name, given in entry.hp.items() if isinstance(given, Mapping)]
    ranges += [p.name for p in space.searched if p.name.startswith("recipe.")]
    ranges += ["class_order"] if seeks(scenario) else []
    if ranges:
        raise BadRequest(
            f"{label}: protocol.select_on fixed selects nothing, but {ranges[0]} is to be searched: fix it, "
            "or set protocol.select_on to validation"
        )


def _with_confirmation(
    study: Study, label: str, budget: int, note: str
) -> tuple[int, str, ConfirmPart | None]:
    """Return the trials that the search may propose, a note on them, and the confirmation of the cell.

    The runs of a confirmation are part of what `search.trials` pays for. A grid is not cut for it. Raises
    BadRequest where fewer than two trials would be left.
    """
    search, protocol = study.search, study.protocol
    if not isinstance(protocol.confirm, ConfirmPart):
        return budget, note, None
    least = max(2, protocol.turns + 1)
    repeats, runs = protocol.orders * protocol.seeds, protocol.confirm.runs
    left = search.trials - math.ceil(runs / repeats)
    if search.sampler == "grid":
        if left < budget:
            return budget, f"{note or 'of the grid'}, nothing left to confirm", None
        return budget, f"{note}, {runs} runs confirm", protocol.confirm
    if left < least:
        raise BadRequest(
            f"{label}: protocol.confirm takes {runs} runs, which leaves no trials to search of search.trials "
            f"{search.trials}: set it to {search.trials - left + least} or more, or confirm to none"
        )
    turns = f" on {protocol.turns} class orders in turn" if protocol.turns > 1 else ""
    return left, f"of {search.trials}{turns}, {runs} runs confirm", protocol.confirm


def _alone(protocol: ProtocolPart) -> ConfirmPart | None:
    """Return the confirmation of a cell that has nothing to search: its default on the same class orders.

    So cells are compared on class orders that no search has seen.
    """
    confirm = protocol.confirm
    return confirm.model_copy(update={"top": 0}) if isinstance(confirm, ConfirmPart) else None


def _merged(study: Mapping[str, Any], label: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study's recipe with a label's own on top, key by key."""
    out = copy.deepcopy(dict(study))
    for key, value in label.items():
        if key in PARTS and isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = {**out[key], **value}
        else:
            out[key] = value
    return out
