"""The searched parameters of a cell as study.yaml holds them. Reports rebuild the space from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_core.hparams import Choice, Domain, Float, Int, Value, hparams
from cl_core.method import METHODS
from cl_core.recipe import PARTS, Recipe
from spaces.space.space import Parameter, Space


def plain_parameters(method: str, space: Space) -> list[dict[str, Any]]:
    """Return every searched parameter of `space`, in its order, as plain values.

    `name`, `column` (of the tables), `kind` (float, int or choice), `low`, `high` and `log` or `choices`,
    `default` (the published one), `when` (only in a branch: column -> values) and `whole`, the method's own
    domain, unless it is neither float, int nor choice.
    """
    known = {p.name: p for p in space.parameters}
    return [_plain(method, p, known) for p in space.searched]


def _plain(method: str, p: Parameter, known: Mapping[str, Parameter]) -> dict[str, Any]:
    assert p.domain is not None
    names = set(known)
    out: dict[str, Any] = {"name": p.name, "column": _column(p.name, names), **_domain(p.domain)}
    out["default"] = p.default
    if when := _open(p, known):
        out["when"] = {_column(name, names): list(allowed) for name, allowed in when.items()}
    whole = _whole(method, p.name)
    if isinstance(whole, Float | Int | Choice):
        out["whole"] = _domain(whole)
    return out


def _open(p: Parameter, known: Mapping[str, Parameter]) -> dict[str, tuple[Value, ...]]:
    """Return the part of a branch that trials decide.

    A fixed value always allows the branch; otherwise the space would lack the parameter.
    """
    out: dict[str, tuple[Value, ...]] = {}
    for name, allowed in p.when.items():
        out |= {name: allowed} if known[name].searched else _open(known[name], known)
    return out


def _domain(domain: Float | Int | Choice) -> dict[str, Any]:
    if isinstance(domain, Choice):
        return {"kind": "choice", "choices": list(domain.options)}
    kind, number = ("float", float) if isinstance(domain, Float) else ("int", int)
    return {"kind": kind, "low": number(domain.low), "high": number(domain.high), "log": domain.log}


def _column(name: str, names: set[str]) -> str:
    """Return the column of the tables that holds a parameter's value.

    Tables hold a recipe field for base and increments apart. "recipe.lr" is found in a part for which the
    study gives no own value.
    """
    kind, *rest = name.split(".")
    if kind != "recipe" or len(rest) > 1:
        return name
    if rest[0] == "net":
        return "net"
    free = [part for part in PARTS if f"recipe.{part}.{rest[0]}" not in names]
    return f"recipe.{(free or PARTS)[0]}.{rest[0]}"


def _whole(method: str, name: str) -> Domain | None:
    kind, *rest = name.split(".")
    known = hparams(METHODS[method].HP if kind == "hp" else Recipe)
    return known[rest[-1]].domain if rest[-1] in known else None
