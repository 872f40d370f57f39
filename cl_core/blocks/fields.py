"""Hyperparameter fields that several methods declare: one function each, called in a method's `HP`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_core.hparams import Float, Value, hp, option

Branch = Mapping[str, tuple[Value, ...]]

DISTILLING: Branch = {"distill": (True,)}
"""The branch in which a method distils."""


def distill(off: str) -> Any:
    """The switch of the distillation; `off` says what remains without it."""
    return option(True, False, doc=f"off: {off}")


def stability_weight(default: float, low: float, high: float, *, when: Branch | None = None, doc: str) -> Any:
    """The weight of a term that holds the network to what it knew, searched on a log scale."""
    return hp(default, Float(low, high, log=True), when=when, stability=True, doc=doc)


def temperature(doc: str, *, when: Branch = DISTILLING, searched: bool = True) -> Any:
    """The temperature of a distillation."""
    return hp(2.0, Float(1, 5), when=when, searched=searched, doc=doc)


def ce_scope(default: str = "new_only", doc: str = "classes in the cross-entropy") -> Any:
    """The classes whose softmax the cross-entropy takes."""
    other = "all_seen" if default == "new_only" else "new_only"
    return option(default, other, doc=doc)


def classifier(default: str, other: str) -> Any:
    """The rule that answers. Both are recorded from the first task on."""
    return option(default, other, answers=True, doc="the rule that answers")


def proto_ratio() -> Any:
    """The prototypes that are drawn beside a step's images."""
    doc = "prototypes a step over the recipe's batch"
    return hp(1.0, Float(0.1, 10, log=True), searched=False, doc=doc)
