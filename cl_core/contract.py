"""Contracts: functions whose names are sentences, and which raise if their subject breaks them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cl_core.errors import BadRequest, located

Contract = Callable[..., None]


class Outcome(NamedTuple):
    """One contract run on one subject."""

    sentence: str
    trouble: str | None  # one line; None: kept


def contracts_of(module: Mapping[str, Any]) -> tuple[Contract, ...]:
    """Return the contracts of a module, of which `module` is the globals: its public functions, in order."""
    own = (f for name, f in module.items() if inspect.isfunction(f) and not name.startswith("_"))
    return tuple(f for f in own if f.__module__ == module["__name__"])


def sentence(contract: Contract) -> str:
    """Return the sentence that a contract stands for."""
    return contract.__name__.replace("_", " ")


def outcomes(contracts: Sequence[Contract], *subject: Any) -> Iterator[Outcome]:
    """Run the contracts one by one and yield their outcomes. Raises BadRequest if Python skips assertions."""
    if not __debug__:
        raise BadRequest("contracts are assertions, which python -O skips: run without -O")
    for contract in contracts:
        try:
            contract(*subject)
        except Exception as error:  # code of your own may raise anything
            yield Outcome(sentence(contract), located(error))
        else:
            yield Outcome(sentence(contract), None)


def require(name: str, found: Iterator[Outcome]) -> None:
    """Raise AssertionError with a line for each contract that `name` breaks."""
    every = list(found)
    broken = [f"  {o.sentence}: {o.trouble}" for o in every if o.trouble is not None]
    if broken:
        head = f"{name} breaks {len(broken)} of {len(every)} contracts:"
        raise AssertionError("\n".join([head, *broken]))
