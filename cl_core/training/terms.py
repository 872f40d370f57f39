"""The objective of a step: the weighted sum of the terms of a method's loss, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from cl_core.errors import RunError, defined_at
from cl_core.task import Term


def objective(terms: dict[str, Term], loss: Callable[..., Any]) -> Tensor:
    """The sum of value x weight over the terms that `loss` returned, a scalar.

    Raises RunError, which names the file and line of `loss`, where there is none to train on.
    """
    if not isinstance(terms, dict):
        raise _fault(f"must return a dict of Terms, not {_kind(terms)}", loss)
    if not terms:
        raise _fault("must return at least one Term, not an empty dict", loss)
    total: Tensor | None = None
    for name, term in terms.items():
        if not isinstance(term, Term):
            raise _fault(f"must give {name!r} as a Term, not {_kind(term)}", loss)
        if not isinstance(term.value, Tensor) or term.value.ndim:
            raise _fault(f"must give the value of {name!r} as a scalar tensor, not {_kind(term.value)}", loss)
        # A product with the weight 1 is the value. Terms may be bfloat16, their sum is float32.
        weighted = (
            term.value if type(term.weight) is float and term.weight == 1.0 else term.value * term.weight
        )
        total = weighted.float() if total is None else total + weighted
    assert total is not None
    if not total.requires_grad:
        names = ", ".join(map(repr, terms))
        raise _fault(f"must depend on what is trained: none of its terms ({names}) has a gradient", loss)
    return total


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return type(value).__name__


def _fault(rule: str, loss: Callable[..., Any]) -> RunError:
    name = getattr(loss, "__qualname__", type(loss).__name__)
    return RunError(
        f"loss {name} {rule}: return {{'ce': Term(cross_entropy)}} ({defined_at(inspect.unwrap(loss))})"
    )
