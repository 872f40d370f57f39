"""The part of a space that only answers: its values share one training."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from cl_core.hparams import Choice, Value, hparams
from cl_core.method import METHODS
from spaces.space.space import Parameter, Space, Values


def answering(method: str, space: Space) -> tuple[Parameter, ...]:
    """Return the searched choices that act in every trial and change only what answers.

    One on which another parameter depends is left out.
    """
    known = hparams(METHODS[method].HP)
    branching = {name for p in space.parameters for name in p.when}
    return tuple(
        p
        for p in space.searched
        if p.name.startswith("hp.")
        and known[p.name.removeprefix("hp.")].answers
        and isinstance(p.domain, Choice)
        and not p.when
        and p.name not in branching
    )


def other_answers(parameters: tuple[Parameter, ...], values: Mapping[str, Value]) -> list[Values]:
    """Return `values` with every other combination of the parameters that only answer, in a fixed order."""
    options = [p.domain.options for p in parameters if isinstance(p.domain, Choice)]
    names = [p.name for p in parameters]
    found = [{**values, **dict(zip(names, chosen, strict=True))} for chosen in product(*options)]
    return [other for other in found if other != values]
