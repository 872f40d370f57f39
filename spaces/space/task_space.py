"""The part of a space that can be searched again at every task: parameters of the training of later tasks.

Left out are parameters that act on the first task, on memory or on the rule that answers, and the network.
What is kept for later tasks does not change the accuracy after a task, so no attempt could judge it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from cl_core.hparams import Choice, Float, Int, hparams
from cl_core.method import METHODS
from spaces.space.space import Parameter, Space

INCREMENT, RECIPE = "recipe.increment.", "recipe."


def task_space(method: str, space: Space) -> Space:
    """Return the parameters of `space` that act at a later task: "hp.kd_weight", "recipe.lr".

    A recipe field bears the name that it has in the table `tasks`. Fixed parameters stay where a branch needs
    them. A method that restarts at every task has none.
    """
    cls = METHODS[method]
    known = hparams(cls.HP)
    names = {p.name for p in space.parameters}
    found: list[Parameter] = []
    for p in space.parameters:
        if p.name.startswith("hp."):
            param = known[p.name.removeprefix("hp.")]
            adapted = param.acts_from >= 1 and not param.at_boundary
            found.append(p if adapted else p.fixed())
        elif p.name.startswith(INCREMENT):
            found.append(dataclasses.replace(p, name=RECIPE + p.name.removeprefix(INCREMENT)))
        elif p.name.count(".") == 1 and p.name != "recipe.net":
            first_only = INCREMENT + p.name.removeprefix(RECIPE) in names
            found += [] if first_only else [p]
    if cls.restarts:
        return Space(())
    return Space(tuple(_needed(_acting(found))))


def _acting(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return the parameters without those whose branch the fixed values exclude."""
    out: dict[str, Parameter] = {}
    for p in parameters:
        before = {name: out.get(name) for name in p.when}
        if all(q and (q.searched or q.default in p.when[name]) for name, q in before.items()):
            out[p.name] = p
    return list(out.values())


def _needed(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return the searched parameters, and those that their branches depend on."""
    out: list[Parameter] = []
    wanted: set[str] = set()
    for p in reversed(list(parameters)):
        if p.searched or p.name in wanted:
            wanted |= set(p.when)
            out.insert(0, p)
    return out


def to_plain(space: Space) -> list[dict[str, Any]]:
    """Return a space as plain values that JSON can carry; `from_plain` reads them."""
    return [_plain(p) for p in space.parameters]


def from_plain(plain: Iterable[Mapping[str, Any]]) -> Space:
    """Return the space that `to_plain` described."""
    return Space(tuple(_parameter(item) for item in plain))


def _plain(p: Parameter) -> dict[str, Any]:
    out: dict[str, Any] = {"name": p.name, "default": p.default}
    match p.domain:
        case Choice():
            out["choices"] = list(p.domain.options)
        case Float(low, high, log):
            out |= {"kind": "float", "low": low, "high": high, "log": log}
        case Int(low, high, log):
            out |= {"kind": "int", "low": low, "high": high, "log": log}
    if p.when:
        out["when"] = {name: list(values) for name, values in p.when.items()}
    return out


def _parameter(plain: Mapping[str, Any]) -> Parameter:
    domain: Float | Int | Choice | None = None
    if "choices" in plain:
        domain = Choice(*plain["choices"])
    elif "kind" in plain:
        bounds = plain["low"], plain["high"], plain["log"]
        domain = Int(*bounds) if plain["kind"] == "int" else Float(*bounds)
    when = {name: tuple(values) for name, values in plain.get("when", {}).items()}
    return Parameter(plain["name"], plain["default"], domain, when)
