"""Hyperparameters: a frozen dataclass whose fields carry their domain and the first task on which they act.

    @dataclass(frozen=True)
    class HP:
        kd_weight: float = hp(0.25, Float(0.02, 8, log=True), doc="lambda_o, without its T-squared")

Everything else is derived from this metadata: search spaces, `describe`, checkpoint keys, Parquet columns and
the contract tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cl_core.errors import BadRequest, unknown

Value = float | int | str | bool
T = TypeVar("T")


@dataclass(frozen=True)
class Float:
    """A real interval [low, high], both ends included."""

    low: float
    high: float
    log: bool = False

    def check(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadRequest(f"{name} must be a number in [{self.low:g}, {self.high:g}], not {value!r}")
        if not self.low <= value <= self.high:
            raise BadRequest(f"{name} must lie in [{self.low:g}, {self.high:g}], not {value:g}")
        return float(value)

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]" + (" log" if self.log else "")


@dataclass(frozen=True)
class Int:
    """The integers low..high, both ends included."""

    low: int
    high: int
    log: bool = False

    def check(self, name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequest(f"{name} must be a whole number in [{self.low}, {self.high}], not {value!r}")
        if not self.low <= value <= self.high:
            raise BadRequest(f"{name} must lie in [{self.low}, {self.high}], not {value}")
        return value

    def __str__(self) -> str:
        return f"{{{self.low}..{self.high}}}" + (" log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """A finite set of values of one type."""

    options: tuple[Value, ...]

    def __init__(self, *options: Value) -> None:
        object.__setattr__(self, "options", options)

    def check(self, name: str, value: object) -> Value:
        for option in self.options:
            same_kind = isinstance(option, bool) == isinstance(value, bool)
            if same_kind and option == value:
                return option
        raise BadRequest(f"{name} must be one of {', '.join(map(repr, self.options))}, not {value!r}")

    def __str__(self) -> str:
        return "{" + ", ".join(str(o) for o in self.options) + "}"


@dataclass(frozen=True)
class Fractions:
    """Increasing fractions in (0, 1), written "0.5,0.75". A list is valid too; the empty text means none."""

    def check(self, name: str, value: object) -> str:
        numbers = _listed(value)
        if numbers is None or numbers != sorted(set(numbers)) or not all(0 < n < 1 for n in numbers):
            raise BadRequest(f"{name} must be increasing fractions such as [0.5, 0.75], not {value!r}")
        return ",".join(map(repr, numbers))

    def __str__(self) -> str:
        return "increasing fractions"


@dataclass(frozen=True)
class Factors:
    """Different positive numbers, at least one, written "0.1,1". A list or a single number is valid too."""

    def check(self, name: str, value: object) -> str:
        numbers = _listed(value) or []
        if not numbers or len(set(numbers)) < len(numbers) or not all(0 < n < math.inf for n in numbers):
            raise BadRequest(f"{name} must be different positive numbers such as [0.1, 1], not {value!r}")
        return ",".join(repr(n).removesuffix(".0") for n in numbers)

    def __str__(self) -> str:
        return "different positive numbers"


def _listed(value: object) -> list[float] | None:
    """Return the numbers of a list, of a text with commas, or a single one; None for anything else."""
    parts = [p for p in value.split(",") if p.strip()] if isinstance(value, str) else value
    try:
        return [float(p) for p in (parts if isinstance(parts, list | tuple) else [parts])]  # type: ignore
    except (TypeError, ValueError):
        return None


Domain = Float | Int | Choice | Fractions | Factors


@dataclass(frozen=True)
class HParam:
    """One hyperparameter: its values, and when it acts.

    `acts_from` is the first task whose network or scores it changes. With `at_boundary` it changes only what
    is computed after a task (memory, class means, the rule that answers), never the training of that task.
    With `answers` it changes only what answers: no task trains differently, so one training gives the numbers
    of all its values. Such a hyperparameter is `at_boundary` and acts from task 0.
    `when` names the branch in which it acts: {"loss": ("ce",)}. With `searched` off a study searches it only
    if it says so. `stability` marks the weight of a term that holds the network to the past, by a teacher or
    by stored data. `cl_core.training.chf` starts such a weight at its upper end and relaxes it.
    """

    name: str
    type: type
    default: Value
    domain: Domain
    acts_from: int
    at_boundary: bool
    when: Mapping[str, tuple[Value, ...]]
    searched: bool
    doc: str
    stability: bool
    answers: bool

    def trains(self, task: int) -> bool:
        """Return True if it can act on the training of a task or of one before it."""
        return not self.answers and task >= self.acts_from and not (self.at_boundary and task == 0)

    def active(self, values: Mapping[str, Value]) -> bool:
        """Return True if `values` take the branch of `when`."""
        return all(values[name] in allowed for name, allowed in self.when.items())


def hp(
    default: Value,
    domain: Domain,
    *,
    acts_from: int = 1,
    at_boundary: bool = False,
    when: Mapping[str, tuple[Value, ...]] | None = None,
    searched: bool = True,
    doc: str = "",
    stability: bool = False,
    answers: bool = False,
) -> Any:
    """A dataclass field that is a hyperparameter; see `HParam` for the meaning of the arguments."""
    if stability and not isinstance(domain, Float):
        raise TypeError(f"stability is relaxed by factors, so it needs an interval, not {domain}")
    if answers:
        acts_from, at_boundary = 0, True
    meta = {
        "domain": domain,
        "acts_from": acts_from,
        "at_boundary": at_boundary,
        "when": dict(when or {}),
        "searched": searched,
        "doc": doc,
        "stability": stability,
        "answers": answers,
    }
    return dataclasses.field(default=default, metadata={"hp": meta})


def option(
    default: Value,
    *others: Value,
    acts_from: int = 1,
    at_boundary: bool = False,
    when: Mapping[str, tuple[Value, ...]] | None = None,
    doc: str,
    answers: bool = False,
) -> Any:
    """A dataclass field that chooses among values, the default first; no study searches it unless told to."""
    return hp(
        default,
        Choice(default, *others),
        acts_from=acts_from,
        at_boundary=at_boundary,
        when=when,
        searched=False,
        doc=doc,
        answers=answers,
    )


def hparams(cls: type) -> dict[str, HParam]:
    """The hyperparameters of a dataclass by name, in the order of definition.

    Its class variable ACTS_FROM, where there is one, says when inherited ones act in this class.
    """
    acts_from: Mapping[str, int] = getattr(cls, "ACTS_FROM", {})
    out = {}
    for f in dataclasses.fields(cls):
        if "hp" in f.metadata:
            meta = {**f.metadata["hp"]}
            meta["acts_from"] = acts_from.get(f.name, meta["acts_from"])
            out[f.name] = HParam(f.name, type(f.default), f.default, **meta)  # type: ignore[arg-type]
    return out


def to_dict(values: Any) -> dict[str, Value]:
    """The values of a hyperparameter dataclass, by name."""
    return {name: getattr(values, name) for name in hparams(type(values))}


def from_dict(cls: type[T], values: Mapping[str, object], kind: str = "hyperparameter") -> T:
    """Build `cls` from plain values. Raises BadRequest on an unknown name or a value outside its domain."""
    known = hparams(cls)
    for name in values:
        if name not in known:
            raise unknown(kind, name, known)
    return cls(**{name: known[name].domain.check(name, value) for name, value in values.items()})


def digest(value: object, length: int = 20) -> str:
    """Return the hexadecimal SHA-256 of the canonical JSON of plain values, cut to `length`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
