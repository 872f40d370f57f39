"""Splits as a search axis: grids of scenarios, and class orders as something to search.

A scenario `{grid: {base: [0, 4], increment: [1, 2], class_order: [natural, "seed:1"]}}` stands for every
combination. A scenario whose class order is `hardest` or `easiest` is searched over class orders alone: a
configuration is a random key in [0, 1] for each class, and the order is that of the keys (Bean, Genetic
Algorithms and Random Keys for Sequencing and Optimization, ORSA J. Computing 1994), so that every sampler of
real numbers can search permutations. Within a task, classes stand in the data set's own order: what counts
is the split, so that equal splits are one configuration, and the first task is shared where its classes
agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Float, Value
from cl_core.scenarios.class_orders import SOUGHT, by_task, class_order, listed
from cl_core.scenarios.scenarios import ScenarioSpec, parse_scenario
from spaces.space.space import Parameter, Space, Values

GRID = "grid"
SPLITS = ("increment", "tasks", "increments")
MOST_SCENARIOS = 1_000  # of one grid; beyond it stands a slip of the hand
KEY = "order."  # of a parameter: the random key of a class

TURNED = {"max": "min", "min": "max"}


def scenarios_of(
    entries: Sequence[str | Mapping[str, Any]], classes: int | None = None
) -> list[ScenarioSpec]:
    """The scenarios of a study's list in order, a grid's combinations in its place.

    A combination of a grid that stands already counts once; where the number of `classes` is known, so do
    two combinations with the same tasks and class order. Raises BadRequest, also where a combination does
    not fit so many classes.
    """
    out: list[ScenarioSpec] = []
    for entry in entries:
        if not (isinstance(entry, Mapping) and GRID in entry):
            spec = parse_scenario(entry)
            if spec.name in {other.name for other in out}:
                raise BadRequest(f"scenarios names {spec.name!r} twice: remove one, or give one another name")
            out.append(spec)
            continue
        seen: set[tuple[tuple[int, ...], str]] = set()
        for spec in _combinations(entry):
            split = (spec.sizes(classes), spec.class_order) if classes else ((), spec.name)
            if spec not in out and split not in seen:
                if spec.name in {other.name for other in out}:
                    raise BadRequest(
                        f"scenarios names {spec.name!r} twice, once in a grid: give the other another name"
                    )
                out.append(spec)
            seen.add(split)
    return out


def _combinations(entry: Mapping[str, Any]) -> Iterator[ScenarioSpec]:
    """Every combination of a grid's values: bases outside, then what follows them, class orders inside."""
    if len(entry) > 1:
        other = next(key for key in entry if key != GRID)
        raise BadRequest(f"a scenario with a grid has no other key, and got {other!r}: move it into the grid")
    given = entry[GRID]
    known = ("base", *SPLITS, "class_order")
    if not isinstance(given, Mapping):
        raise BadRequest(
            f"a grid of scenarios is a mapping such as {{base: [0, 4], increment: [1, 2]}}, not {given!r}"
        )
    for key in given:
        if key not in known:
            raise unknown("key of a grid of scenarios", key, known)
    said = [key for key in SPLITS if given.get(key) is not None]
    if len(said) != 1:
        raise BadRequest(
            f"a grid of scenarios needs exactly one of {', '.join(SPLITS)}, and got "
            f"{' and '.join(said) or 'none'}: as in {{base: [0, 4], increment: [1, 2]}}"
        )
    axes = {
        "base": _values("base", given.get("base", 0)),
        said[0]: _values(said[0], given[said[0]]),
        "class_order": _values("class_order", given.get("class_order", "natural")),
    }
    count = math.prod(map(len, axes.values()))
    if count > MOST_SCENARIOS:
        raise BadRequest(f"a grid of scenarios must stay below {MOST_SCENARIOS}, and stands for {count}")
    for values in itertools.product(*axes.values()):
        yield parse_scenario(dict(zip(axes, values, strict=True)))


def _values(key: str, given: object) -> list[Any]:
    """The values of one key of a grid: a list, or one value; a flat list of increments is one."""
    if not isinstance(given, list | tuple):
        return [given]
    if key == "increments" and given and not any(isinstance(value, list | tuple) for value in given):
        return [list(given)]
    if not given:
        raise BadRequest(f"{key} of a grid of scenarios must not be empty: give it a value, or leave it out")
    return list(given)


def seeks(scenario: ScenarioSpec) -> str:
    """Which class order is searched, hardest or easiest; empty where the order is given."""
    return scenario.class_order if scenario.class_order in SOUGHT else ""


def directions(objectives: Mapping[str, str], sought: str) -> dict[str, str]:
    """What the search of a cell optimises: the study's objectives, turned where the hardest order is
    sought."""
    return {name: TURNED[way] if sought == "hardest" else way for name, way in objectives.items()}


def order_space(space: Space, classes: int) -> Space:
    """`space` with every hyperparameter at its first value, and a random key for each class.

    The keys' defaults, i / classes, give the natural order.
    """
    fixed = [Parameter(name, value) for name, value in space.defaults().items()]
    keys = [
        Parameter(f"{KEY}{c}", c / classes, Float(0.0, 1.0), doc=f"place of class {c} among the others")
        for c in range(classes)
    ]
    return Space((*fixed, *keys), space.inert, tuple(space.moved))


def order_of(config: Mapping[str, Value], sizes: Sequence[int]) -> str:
    """The class order of a configuration's keys, written out; equal keys by class."""
    keys = {int(name[len(KEY) :]): float(value) for name, value in config.items() if name.startswith(KEY)}
    return listed(by_task(sorted(keys, key=lambda c: (keys[c], c)), sizes))


def keys_of(order: str, classes: int) -> dict[str, float]:
    """Keys that give a class order. Raises BadRequest for one that is none."""
    return {f"{KEY}{c}": place / classes for place, c in enumerate(class_order(order, classes))}


def as_order(config: Mapping[str, Value], sizes: Sequence[int]) -> Values:
    """A configuration with the class order in the place of its keys, where it has any: what identifies it."""
    rest = {name: value for name, value in config.items() if not name.startswith(KEY)}
    return rest if len(rest) == len(config) else {**rest, "class_order": order_of(config, sizes)}


def number_of_splits(sizes: Sequence[int]) -> int:
    """How many class orders differ in which task brings which class."""
    return math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))


def check_order_search(
    scenario: ScenarioSpec, sizes: Sequence[int], sampler: str, objectives: Mapping[str, str]
) -> None:
    """Raise BadRequest where no search for a class order can be made."""
    said = f"scenario {scenario.name} searches for the {scenario.class_order} class order"
    if len(sizes) == 1:
        raise BadRequest(f"{said}, but has one task, which every order makes alike: split the classes")
    if len(objectives) > 1:
        raise BadRequest(
            f"{said} by one objective, but search.objective names {len(objectives)}: keep one, or make it a "
            "study of its own"
        )
    if sampler == "grid":
        raise BadRequest(
            f"{said}, of which there is no grid: set search.sampler to tpe, gp, random or nsga2, or write "
            "orders out in a grid of scenarios"
        )
