"""Scenarios as a search axis: grids of scenarios, and class orders to search.

A scenario `{grid: {base: [0, 4], increment: [1, 2], class_order: [natural, "seed:1"]}}` stands for every
combination. If its class order is `hardest` or `easiest`, class orders are searched instead of
hyperparameters. A trial is then a random key in [0, 1] for each class, and the keys' order is the class
order (Bean, Genetic Algorithms and Random Keys for Sequencing and Optimization, ORSA J. Computing 1994). So
every sampler of real numbers can search permutations. Within a task, classes keep the data set's order:
trials with equal tasks are equal, and first tasks with equal classes are shared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Float, Value
from cl_core.scenarios.class_orders import SOUGHT, by_task, class_order, order_text
from cl_core.scenarios.scenarios import WAYS, ScenarioSpec, parse_scenario
from spaces.space.space import Parameter, Space, Values

GRID = "grid"
MOST_SCENARIOS = 1_000  # of one grid; a larger number is a typing error
KEY = "order."  # prefix of a parameter that is the random key of a class

TURNED = {"max": "min", "min": "max"}


def scenarios_of(
    entries: Sequence[str | Mapping[str, Any]], classes: int | None = None
) -> list[ScenarioSpec]:
    """Return the scenarios of a study's list in order, with each grid replaced by its combinations.

    A combination that is already in the list counts once. With a number of `classes`, two combinations with
    the same tasks and class order count once as well. Raises BadRequest, also where a combination does not
    fit the classes.
    """
    out: list[ScenarioSpec] = []
    for entry in entries:
        if not (isinstance(entry, Mapping) and GRID in entry):
            spec = parse_scenario(entry)
            if spec.name in {other.name for other in out}:
                raise BadRequest(f"scenarios names {spec.name!r} twice: remove one, or rename one")
            out.append(spec)
            continue
        seen: set[tuple[tuple[int, ...], str]] = set()
        for spec in _combinations(entry):
            split = (spec.sizes(classes), spec.class_order) if classes else ((), spec.name)
            if spec not in out and split not in seen:
                if spec.name in {other.name for other in out}:
                    raise BadRequest(f"scenarios names {spec.name!r} twice, once in a grid: rename the other")
                out.append(spec)
            seen.add(split)
    return out


def _combinations(entry: Mapping[str, Any]) -> Iterator[ScenarioSpec]:
    """Yield every combination of a grid's values: bases outside, class orders inside."""
    if len(entry) > 1:
        other = next(key for key in entry if key != GRID)
        raise BadRequest(
            f"a scenario with a grid must have no other key, not {other!r}: move it into the grid"
        )
    given = entry[GRID]
    known = ("base", *WAYS, "class_order")  # the first one outside
    if not isinstance(given, Mapping):
        raise BadRequest(
            f"a grid of scenarios must be a mapping, not {given!r}: write {{base: [0, 4], increment: [1, 2]}}"
        )
    for key in given:
        if key not in known:
            raise unknown("key of a grid of scenarios", key, known)
    axes = {key: _values(key, given[key]) for key in known if given.get(key) is not None}
    count = math.prod(map(len, axes.values()))
    if count > MOST_SCENARIOS:
        raise BadRequest(
            f"a grid of scenarios must have at most {MOST_SCENARIOS} combinations, not {count}: shorten it"
        )
    for values in itertools.product(*axes.values()):
        yield parse_scenario(dict(zip(axes, values, strict=True)))


def _values(key: str, given: object) -> list[Any]:
    """Return the values of one key of a grid; a flat list of increments is one value."""
    if not isinstance(given, list | tuple):
        return [given]
    if key == "increments" and given and not any(isinstance(value, list | tuple) for value in given):
        return [list(given)]
    if not given:
        raise BadRequest(f"{key} of a grid of scenarios must not be empty: give it a value, or remove it")
    return list(given)


def seeks(scenario: ScenarioSpec) -> str:
    """Return the class order that is searched, hardest or easiest; empty if the order is given."""
    return scenario.class_order if scenario.class_order in SOUGHT else ""


def directions(objectives: Mapping[str, str], sought: str) -> dict[str, str]:
    """Return the directions of a cell's search: those of the study, reversed for the hardest order."""
    return {name: TURNED[way] if sought == "hardest" else way for name, way in objectives.items()}


def order_space(space: Space, classes: int) -> Space:
    """Return `space` with every hyperparameter fixed to its default, and a random key for each class.

    The default keys, i / classes, give the natural order.
    """
    fixed = [Parameter(name, value) for name, value in space.defaults().items()]
    keys = [
        Parameter(f"{KEY}{c}", c / classes, Float(0.0, 1.0), doc=f"place of class {c} among the others")
        for c in range(classes)
    ]
    return Space((*fixed, *keys), space.inert, tuple(space.moved))


def order_of(values: Mapping[str, Value], sizes: Sequence[int]) -> str:
    """Return the class order of a trial's keys, written out. Equal keys are ordered by class."""
    keys = {int(name[len(KEY) :]): float(value) for name, value in values.items() if name.startswith(KEY)}
    return order_text(by_task(sorted(keys, key=lambda c: (keys[c], c)), sizes))


def keys_of(order: str, classes: int) -> dict[str, float]:
    """Return keys that give a class order. Raises BadRequest for an invalid order."""
    return {f"{KEY}{c}": place / classes for place, c in enumerate(class_order(order, classes))}


def as_order(values: Mapping[str, Value], sizes: Sequence[int]) -> Values:
    """Return what identifies a trial: its values, with a class order in place of the keys."""
    rest = {name: value for name, value in values.items() if not name.startswith(KEY)}
    return rest if len(rest) == len(values) else {**rest, "class_order": order_of(values, sizes)}


def number_of_splits(sizes: Sequence[int]) -> int:
    """Return the number of class orders that differ in the classes of a task."""
    return math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))


def check_order_search(
    scenario: ScenarioSpec, sizes: Sequence[int], sampler: str, objectives: Mapping[str, str]
) -> None:
    """Raise BadRequest where class orders cannot be searched."""
    search = f"scenario {scenario.name} searches for the {scenario.class_order} class order"
    if len(sizes) == 1:
        raise BadRequest(f"{search}, but has one task, which is equal for every order: split the classes")
    if len(objectives) > 1:
        raise BadRequest(
            f"{search} by one objective, but search.objective names {len(objectives)}: keep one, or move it "
            "to another study"
        )
    if sampler == "grid":
        raise BadRequest(
            f"{search}, for which there is no grid: set search.sampler to tpe, gp, random or nsga2, or list "
            "the orders in a grid of scenarios"
        )
