"""The space of every cell, read back from `resolved.cells[].parameters` of study.yaml.

What was drawn says little of what could have been drawn; only the space says whether a value lies at an edge,
and which parameters act in a branch alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.lake.run_folder import STUDY
from cl_core.errors import BadRequest
from cl_core.hparams import Choice, Float, Int, Value

Domain = Float | Int | Choice


@dataclass(frozen=True)
class Parameter:
    """One searched parameter; `column` is where the tables hold it, `whole` what the method allows at all."""

    name: str
    column: str
    domain: Domain
    default: Value
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)  # column -> values
    whole: Domain | None = None

    @property
    def short(self) -> str:
        """The name as people write it."""
        return self.name.removeprefix("hp.").removeprefix("recipe.")

    @property
    def branch(self) -> str:
        """The branch in which it acts, in words; empty where it always acts."""
        named = (f"{c.removeprefix('hp.')} = {' or '.join(map(str, v))}" for c, v in self.when.items())
        return " and ".join(named)

    @property
    def single(self) -> bool:
        """Tell whether there is only one value."""
        if isinstance(self.domain, Choice):
            return len(self.domain.options) == 1
        return self.domain.low == self.domain.high

    @property
    def options(self) -> tuple[Value, ...]:
        """The values of a choice; none of a range."""
        return _options(self.domain)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The smallest and the largest value; None where values have no order."""
        return ends(self.domain)

    def value(self, found: object) -> Value | None:
        """Convert a table's value to one of the domain; None where it is not in it."""
        if isinstance(found, np.generic):  # of a column without missing values; no int or bool of Python's
            found = found.item()
        if found is None or (isinstance(found, float) and math.isnan(found)) or found is pd.NA:
            return None
        if isinstance(found, bool) != any(isinstance(o, bool) for o in _options(self.domain)):
            return None
        try:
            value: Value = self.domain.check(self.name, found)
        except BadRequest:
            return None
        return value

    def position(self, value: float) -> float | None:
        """Place a number in the domain: 0 at its lower end, 1 at its upper one, in logarithms where the
        domain is searched in them; a choice counts the steps between its numbers."""
        if self.ends is None or self.single:
            return None
        if isinstance(self.domain, Choice):
            steps = sorted(float(option) for option in self.domain.options)
            return steps.index(value) / (len(steps) - 1)
        low, high = self.ends
        if self.domain.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


def ends(domain: Domain) -> tuple[float, float] | None:
    """The smallest and the largest number of a domain; None where it holds others than numbers."""
    if not isinstance(domain, Choice):
        return float(domain.low), float(domain.high)
    numbers = [float(o) for o in domain.options if isinstance(o, int | float) and not isinstance(o, bool)]
    return (min(numbers), max(numbers)) if len(numbers) == len(domain.options) else None


def spaces(results: Results) -> dict[str, tuple[Parameter, ...]] | None:
    """Cell -> its searched parameters; None where the run was written before study.yaml held them.

    Raises BadRequest where they are damaged.
    """
    if "spaces" not in results.memo:
        results.memo["spaces"] = _spaces(results)
    found: dict[str, tuple[Parameter, ...]] | None = results.memo["spaces"]
    return found


def _spaces(results: Results) -> dict[str, tuple[Parameter, ...]] | None:
    out: dict[str, tuple[Parameter, ...]] = {}
    for cell in results.study.resolved.cells:
        if cell.parameters is None:
            continue
        try:
            out.setdefault(cell.name, tuple(map(parameter, cell.parameters)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(
                f"{results.folder / STUDY} is damaged: the parameters of cell {cell.name} "
                f"cannot be read ({type(error).__name__}: {error}); run the study again to write them"
            ) from None
    return out or None


def acting(space: tuple[Parameter, ...], rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Parameter -> in which rows of `runs` its branch is taken; tables hold a value in the others too."""
    out: dict[str, pd.Series] = {}
    for p in space:
        mask = pd.Series(True, index=rows.index)
        for column, allowed in p.when.items():
            mask &= rows[column].isin(allowed) if column in rows else False
            mask &= out.get(column, True)
        out[p.name] = mask
    return out


def parameter(plain: Mapping[str, Any]) -> Parameter:
    """Return a parameter from its plain values in study.yaml.

    Raises KeyError, TypeError or ValueError where they are damaged.
    """
    domain = _domain(plain)
    default = plain["default"]
    if not isinstance(default, bool | int | float | str):
        raise TypeError(f"a default of {default!r}")
    when = {str(column): tuple(values) for column, values in (plain.get("when") or {}).items()}
    whole = plain.get("whole")
    name = _text(plain["name"])
    return Parameter(
        name, _text(plain["column"]), domain, default, when, None if whole is None else _domain(whole)
    )


def _domain(plain: Mapping[str, Any]) -> Domain:
    match plain["kind"]:
        case "choice":
            if not isinstance(plain["choices"], list) or not plain["choices"]:
                raise ValueError(f"choices of {plain['choices']!r}")
            return Choice(*plain["choices"])
        case "float" | "int" as kind:
            low, high, log = plain["low"], plain["high"], plain["log"]
            numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
            if not numbers or not -math.inf < low <= high < math.inf or not isinstance(log, bool):
                raise ValueError(f"a range of {low!r} to {high!r}, log {log!r}")
            if log and low <= 0:
                raise ValueError(f"a range in logarithms from {low!r}")
            return Float(float(low), float(high), log) if kind == "float" else Int(int(low), int(high), log)
    raise ValueError(f"a kind {plain['kind']!r}")


def _options(domain: Domain) -> tuple[Value, ...]:
    return domain.options if isinstance(domain, Choice) else ()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name of {value!r}")
    return value
