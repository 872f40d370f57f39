"""The search space of a method, derived from the metadata beside its hyperparameters and the recipe's.

By default, hyperparameters marked `searched` are searched over their whole domain, and the others keep
their default. Recipe fields are searched only where the study gives a domain. A method that restarts at
every task has no recipe for increments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Choice, Float, HParam, Int, Value, hparams, to_dict
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.recipe import PARTS, Recipe, resolve_recipe
from spaces.space.space import Parameter, Space, condition, narrow, values_of

Given = Mapping[str, object]

INCREMENT = "recipe.increment."


def space_of(
    method: str,
    given: Given | None = None,
    recipe: Given | None = None,
    *,
    data_recipe: Mapping[str, Value] | None = None,
    data_net: str = "convnet",
    where: str = "",
) -> Space:
    """Return the space of `method` (a name, or module:attribute).

    `given` fixes or narrows hyperparameters. `recipe` does so for recipe fields and `net`, and under "base"
    and "increment" for the first task and the others. `data_recipe` and `data_net` are the data set's
    defaults; `where` is the place in the study file for messages. Raises BadRequest for unknown names, and
    for values or domains out of range. Settings that can never act are in `Space.inert`.
    """
    cls = METHODS[method]
    where = where or f"methods.{method}"
    own, inert = _hyperparameters(hparams(cls.HP), given or {}, where, method)
    fixed = {p.name.removeprefix("hp."): p.default for p in own if not p.searched and not p.when}
    made = cls(fixed)
    layers = {
        "base": [data_recipe or {}, made.base().recipe],
        "increment": [data_recipe or {}, made.recipe()],
    }
    fields = _recipe(recipe or {}, layers, data_net)
    if cls.restarts:  # every task is trained with the first one's recipe
        fields = [p for p in fields if not p.name.startswith(INCREMENT)]
    return Space((*own, *fields), inert)


def _hyperparameters(
    known: Mapping[str, HParam], given: Given, where: str, method: str
) -> tuple[list[Parameter], dict[str, str]]:
    """Return the parameters "hp.*" in the order of their dependence, and the branches of inactive ones."""
    for name in given:
        if name not in known:
            raise unknown(f"hyperparameter of {method}", name, known)
    out: dict[str, Parameter] = {}
    inert: dict[str, str] = {}
    for name in _in_order(known):
        hparam = known[name]
        when = {f"hp.{controller}": allowed for controller, allowed in hparam.when.items()}
        if name in given:
            narrowed = narrow(f"{where}.{name}", hparam.domain, given[name])
            default = narrowed.default if narrowed.domain is None else hparam.default
            domain = narrowed.domain
        else:
            default = hparam.default
            domain = (
                hparam.domain if hparam.searched and isinstance(hparam.domain, Float | Int | Choice) else None
            )
        if not _reachable(when, out):
            if name in given:
                inert[f"hp.{name}"] = condition(when)
            continue
        out[name] = Parameter(f"hp.{name}", default, domain, when, hparam.doc)
    return list(out.values()), inert


def _in_order(known: Mapping[str, HParam]) -> list[str]:
    """Return names in the order of definition; one that a `when` names moves before its dependent."""
    order: list[str] = []

    def place(name: str) -> None:
        if name not in order:
            for controller in known[name].when:
                place(controller)
            order.append(name)

    for name in known:
        place(name)
    return order


def _reachable(when: Mapping[str, tuple[Value, ...]], before: Mapping[str, Parameter]) -> bool:
    """Return true if some trial takes the branch."""
    for name, allowed in when.items():
        controller = before.get(name.removeprefix("hp."))
        if controller is None:
            return False
        values = [controller.default] if controller.domain is None else values_of(controller.domain)
        if values is not None and not any(value in allowed for value in values):
            return False
    return True


def _recipe(recipe: Given, layers: Mapping[str, Sequence[Mapping[str, Value]]], net: str) -> list[Parameter]:
    """Return the parameters "recipe.*" that the study gives. Their default is the value without a search."""
    fields = hparams(Recipe)
    known = [*hparams(Recipe), *PARTS, "net", "init"]
    out: list[Parameter] = []
    for key, value in recipe.items():
        if key not in known:
            raise unknown("recipe key", key, known)
        if key in PARTS:
            continue
        if key == "net":
            out.append(_net(value, net))
        elif key != "init":
            out.append(_field(f"recipe.{key}", fields[key], value))
    for part in PARTS:
        values = recipe.get(part)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise BadRequest(f"recipe.{part} must be a mapping, not {values!r}: give it recipe fields")
        for key, value in values.items():
            if key not in fields:
                raise unknown(f"key of recipe.{part}", key, fields)
            out.append(_field(f"recipe.{part}.{key}", fields[key], value))
    fixed = {p.name: p.default for p in out if not p.searched}
    return [p if not p.searched or p.name == "recipe.net" else _published(p, fixed, layers) for p in out]


def _field(name: str, hparam: HParam, given: object) -> Parameter:
    return dataclasses.replace(narrow(name, hparam.domain, given), doc=hparam.doc)


def _net(given: object, default: str) -> Parameter:
    """Return the network parameter: a name, module:attribute, or {choice: [..]} of them."""
    options = given.get("choice") if isinstance(given, Mapping) else [given]
    if not isinstance(options, list | tuple) or not options or not all(isinstance(o, str) for o in options):
        raise BadRequest(f"recipe.net must be a network's name or {{choice: [names]}}, not {given!r}")
    for option in options:
        NETS[option]
    if not isinstance(given, Mapping):
        return Parameter("recipe.net", options[0])
    return dataclasses.replace(narrow("recipe.net", Choice(*options), given), default=default)


def _published(
    parameter: Parameter, fixed: Mapping[str, Value], layers: Mapping[str, Sequence[Mapping[str, Value]]]
) -> Parameter:
    """Return `parameter` with the default that the layers of the recipe give."""
    *_, field = parameter.name.split(".")
    part = "increment" if parameter.name.startswith(INCREMENT) else "base"
    common = {name.split(".")[1]: value for name, value in fixed.items() if name.count(".") == 1}
    common.pop("net", None)
    own = {name.split(".")[2]: value for name, value in fixed.items() if name.startswith(f"recipe.{part}.")}
    value = to_dict(resolve_recipe(*layers[part], common, own))[field]
    return dataclasses.replace(parameter, default=value)
