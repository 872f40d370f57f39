"""A contract is a function whose name is its sentence; it raises where its subject breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cl_core.errors import BadRequest, located

Contract = Callable[..., None]


class Outcome(NamedTuple):
    """One contract run on one subject."""

    sentence: str
    trouble: str | None  # one line; None: kept


def sentence(contract: Contract) -> str:
    """The sentence that a contract stands for."""
    return contract.__name__.replace("_", " ")


def outcomes(contracts: Sequence[Contract], *subject: Any) -> Iterator[Outcome]:
    """Every contract's outcome, one after the other. Raises BadRequest where Python skips assertions."""
    if not __debug__:
        raise BadRequest("contracts are assertions, which python -O skips: run without -O")
    for contract in contracts:
        try:
            contract(*subject)
        except Exception as error:  # code of one's own may raise anything
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
