"""A search space: parameters with domains, values that are fixed, and branches in which a parameter acts.

A trial's `Values` map parameter names to values, sampled and fixed ones, without inactive parameters.
`sample_with` asks an Optuna trial for the active parameters only (define by run). Names are "hp.kd_weight",
"recipe.lr" (base task and increments), "recipe.base.lr", "recipe.increment.lr", "recipe.net".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Choice, Domain, Float, Int, Value

Values = dict[str, Value]
When = Mapping[str, tuple[Value, ...]]


class Suggests(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Parameter:
    """One name of a space. `domain` is None where the value is fixed to `default`."""

    name: str
    default: Value
    domain: Float | Int | Choice | None = None
    when: When = field(default_factory=dict)  # other names -> their values under which this one acts
    doc: str = ""

    @property
    def searched(self) -> bool:
        """True if a trial chooses the value."""
        return self.domain is not None

    def fixed(self) -> Parameter:
        """Return the parameter without a search, at its default moved into its domain."""
        if self.domain is None:
            return self
        return replace(self, default=inside(self.domain, self.default), domain=None)


@dataclass(frozen=True)
class Space:
    """Parameters in order: those that a `when` names come before the one that it belongs to."""

    parameters: tuple[Parameter, ...]
    inert: Mapping[str, str] = field(default_factory=dict)  # given, but never active: name -> its branch
    displaced: tuple[tuple[str, Value, Value], ...] = ()  # as `moved`, for parameters that are fixed now

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for parameter in self.parameters:
            if parameter.name in seen:
                raise ValueError(f"{parameter.name} stands twice in one space")
            if missing := set(parameter.when) - seen:
                raise ValueError(f"{parameter.name} depends on {sorted(missing)}, which must come before it")
            seen.add(parameter.name)

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that a trial chooses."""
        return tuple(p for p in self.parameters if p.searched)

    def active(self, parameter: Parameter, values: Mapping[str, Value]) -> bool:
        """Return true if `parameter` acts under the values before it."""
        return all(name in values and values[name] in allowed for name, allowed in parameter.when.items())

    def sample_with(self, trial: Suggests) -> Values:
        """Return values; `trial` suggests the searched ones, and inactive parameters are left out."""
        values: Values = {}
        for p in self.parameters:
            if not self.active(p, values):
                continue
            match p.domain:
                case None:
                    values[p.name] = p.default
                case Float(low, high, log):
                    values[p.name] = trial.suggest_float(p.name, low, high, log=log)
                case Int(low, high, log):
                    values[p.name] = trial.suggest_int(p.name, low, high, log=log)
                case Choice():
                    values[p.name] = trial.suggest_categorical(p.name, list(p.domain.options))
        return values

    def defaults(self) -> Values:
        """Return the published defaults, moved into narrowed domains."""
        values: Values = {}
        for p in self.parameters:
            if self.active(p, values):
                values[p.name] = p.default if p.domain is None else inside(p.domain, p.default)
        return values

    @property
    def moved(self) -> list[tuple[str, Value, Value]]:
        """(name, published default, value taken) for each default outside its narrowed domain."""
        first = self.defaults()
        return list(self.displaced) + [
            (p.name, p.default, first[p.name])
            for p in self.searched
            if p.name in first and first[p.name] != p.default
        ]

    @property
    def conditional(self) -> tuple[str, ...]:
        """The searched parameters that act in some trials only."""
        out: list[str] = []
        known = {p.name: p for p in self.parameters}
        lacking: set[str] = set()
        for p in self.parameters:
            for name, allowed in p.when.items():
                domain = known[name].domain
                values = [known[name].default] if domain is None else values_of(domain)
                if name in lacking or values is None or any(value not in allowed for value in values):
                    lacking.add(p.name)
            if p.searched and p.name in lacking:
                out.append(p.name)
        return tuple(out)

    def validate(self, values: Mapping[str, object]) -> Values:
        """Return `values` with the right types.

        Raises BadRequest for an unknown or inactive name, a missing one, and a value outside its domain.
        """
        known = {p.name for p in self.parameters}
        for name in values:
            if name not in known:
                raise unknown("parameter", name, known)
        out: Values = {}
        for p in self.parameters:
            active = self.active(p, out)
            if p.name not in values:
                if active:
                    raise BadRequest(
                        f"{p.name} is missing: give it a value in {p.domain or Choice(p.default)}"
                    )
                continue
            if not active:
                raise BadRequest(f"{p.name} acts only where {condition(p.when)}: remove it")
            out[p.name] = (p.domain or Choice(p.default)).check(p.name, values[p.name])
        return out

    def searched_in(self, values: Mapping[str, Value]) -> Values:
        """Return the sampled values, without the fixed ones."""
        return {p.name: values[p.name] for p in self.searched if p.name in values}

    def size(self) -> int | None:
        """Return the number of different trials; None if there are infinitely many."""
        return self._size(0, {})

    def points(self) -> Iterator[Values]:
        """Yield the values of every trial once, the last parameter changing fastest.

        Raises BadRequest where there are infinitely many.
        """
        for p in self.searched:
            if isinstance(p.domain, Float) and values_of(p.domain) is None:
                raise BadRequest(
                    f"a grid needs finite domains, but {p.name} is {p.domain}: "
                    "narrow it to {choice: [...]} or fix it"
                )
        return self._points(0, {})

    def __str__(self) -> str:
        searched = [f"{p.name} {p.domain}" for p in self.searched if p.domain]
        return ", ".join(searched) or "nothing to search"

    def _size(self, index: int, before: Values) -> int | None:
        if index == len(self.parameters):
            return 1
        p = self.parameters[index]
        if not self.active(p, before):
            return self._size(index + 1, before)
        values = [p.default] if p.domain is None else values_of(p.domain)
        if values is None:
            return None
        # Only a parameter that a later branch depends on has to be tried value by value.
        if any(p.name in later.when for later in self.parameters[index + 1 :]):
            sizes = [self._size(index + 1, {**before, p.name: value}) for value in values]
            return None if None in sizes else sum(size or 0 for size in sizes)
        rest = self._size(index + 1, before)
        return None if rest is None else len(values) * rest

    def _points(self, index: int, before: Values) -> Iterator[Values]:
        if index == len(self.parameters):
            yield before
            return
        p = self.parameters[index]
        if not self.active(p, before):
            yield from self._points(index + 1, before)
            return
        for value in [p.default] if p.domain is None else values_of(p.domain) or ():
            yield from self._points(index + 1, {**before, p.name: value})


def values_of(domain: Float | Int | Choice) -> list[Value] | range | None:
    """Return every value of a finite domain in order; None for an interval."""
    if isinstance(domain, Choice):
        return list(domain.options)
    if isinstance(domain, Int):
        return range(domain.low, domain.high + 1)
    return [domain.low] if domain.low == domain.high else None


def inside(domain: Float | Int | Choice, value: Value) -> Value:
    """Return `value` if the domain holds it, else the nearest value in the domain.

    Options that are not numbers have no order: the first one is taken.
    """
    if isinstance(domain, Choice):
        same = [o for o in domain.options if o == value and isinstance(o, bool) == isinstance(value, bool)]
        if same:
            return same[0]
        options = [o for o in domain.options if isinstance(o, int | float) and not isinstance(o, bool)]
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and len(options) == len(domain.options)
        ):
            return min(options, key=lambda option: abs(option - value))
        return domain.options[0]
    number = float(value)
    clipped = min(max(number, domain.low), domain.high)
    return int(clipped) if isinstance(domain, Int) else clipped


def narrow(name: str, whole: Domain, given: object) -> Parameter:
    """Return a parameter as a study file gives it: a value fixes it, a mapping gives the domain to search.

    {choice: [1, 2]}, {float: [0.1, 10], log: true}, {int: [1, 5]}; by default `log` is that of `whole`. With
    a domain, the default of the result is a placeholder, because only the caller knows the published one.
    Raises BadRequest for a malformed domain, or one that is not within `whole`.
    """
    if not isinstance(given, Mapping):
        value = whole.check(name, given)
        return Parameter(name, value)
    kinds = [key for key in given if key in ("choice", "float", "int")]
    for key in given:
        if key not in ("choice", "float", "int", "log"):
            raise unknown(f"key of the domain of {name}", key, ("choice", "float", "int", "log"))
    if len(kinds) != 1:
        raise BadRequest(
            f"{name} must be a value or one domain: {{choice: [..]}}, {{float: [low, high]}} "
            f"or {{int: [low, high]}}, not {dict(given)!r}"
        )
    kind = kinds[0]
    bounds = given[kind]
    if kind == "choice":
        if not isinstance(bounds, list | tuple) or not bounds:
            raise BadRequest(
                f"{name}: choice must list at least one value, not {bounds!r}: write {{choice: [..]}}"
            )
        if "log" in given:
            raise BadRequest(f"{name}: log must go with float or int, not with choice: remove it")
        options = [whole.check(name, option) for option in bounds]
        if len({(type(o), o) for o in options}) < len(options):
            raise BadRequest(f"{name}: choice must list each value once, not {bounds!r}: remove one")
        return Parameter(name, options[0], Choice(*options))
    wanted = Float if kind == "float" else Int
    if not isinstance(whole, wanted):
        fits = {Float: "{float: [low, high]}", Int: "{int: [low, high]}"}.get(type(whole), "{choice: [..]}")
        raise BadRequest(f"{name} must be searched within {whole}, not as {kind}: use {fits}")
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise BadRequest(f"{name}: {kind} must be [low, high], not {bounds!r}: give two numbers")
    low, high = (whole.check(name, bound) for bound in bounds)
    log = given.get("log", whole.log)
    if not isinstance(log, bool):
        raise BadRequest(f"{name}: log must be true or false, not {log!r}: set log: true")
    if low > high:
        raise BadRequest(
            f"{name}: {kind} must be [low, high] with low <= high, not {list(bounds)!r}: exchange them"
        )
    if log and low < (1 if kind == "int" else math.ulp(0.0)):
        raise BadRequest(
            f"{name}: a log domain must begin above zero, not at {low:g}: raise low, or set log: false"
        )
    domain = Float(low, high, log) if isinstance(whole, Float) else Int(int(low), int(high), log)
    return Parameter(name, low, domain)


def condition(when: When) -> str:
    """Return a branch in words, "hp.loss = ce"; empty if there is none."""
    return " and ".join(f"{name} = {' or '.join(map(str, allowed))}" for name, allowed in when.items())
