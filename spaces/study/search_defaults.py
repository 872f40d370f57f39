"""Search defaults: what a study uses where it names only a number of trials.

The figures behind them stand in search/README.md.
"""

from __future__ import annotations

from typing import Any

from cl_core.errors import BadRequest
from cl_core.metrics import METRICS
from spaces.study.confirmation import AUTO, ConfirmPart
from spaces.study.protocol import unconfirmed
from spaces.study.study import Study

CONFIRMED = {
    10: ConfirmPart(top=2, orders=1),
    15: ConfirmPart(top=2, orders=2),
    25: ConfirmPart(top=3, orders=2),
    50: ConfirmPart(top=3, orders=3),
    100: ConfirmPart(top=4, orders=3),
}
"""Trials of a cell, at least -> the confirmation that they pay for. Fewer trials are not confirmed."""

SPREAD = {25: 2, 100: 3}
"""Trials of a cell, at least -> the class orders over which they are spread."""


def with_defaults(study: Study) -> Study:
    """Return a study of a new run folder with its automatic settings written out."""
    found: dict[str, Any] = {}
    if study.protocol.confirm == AUTO:
        found["confirm"] = None if _leaves_off(study) else paid(CONFIRMED, study.search.trials, None)
        study = study.with_protocol(found)
    if study.protocol.spread == AUTO:
        found["spread"] = 1 if _not_spread(study) else paid(SPREAD, study.search.trials, 1)
    return study.with_protocol(found)


def check_spread(study: Study, begun: bool = False) -> None:
    """Raise BadRequest where trials cannot be spread over class orders, but are to be.

    The spread of a folder that has `begun` stays.
    """
    protocol = study.protocol
    if protocol.turns > 1 and (reason := _not_spread(study)):
        remedy = "use another --out" if begun else "set protocol.spread to 1"
        raise BadRequest(f"protocol.spread {protocol.turns} {reason}, or {remedy}")


def paid(table: dict[int, Any], trials: int, fewer: Any) -> Any:
    """Return the last entry of a table that a number of trials pays for; `fewer` where there is none."""
    return next((entry for least, entry in reversed(table.items()) if least <= trials), fewer)


def _leaves_off(study: Study) -> bool:
    """Tell whether a study is not confirmed unless it asks for it.

    Fresh class orders of first-k bring classes of later tasks into the first ones. A cost needs no
    confirmation.
    """
    protocol, objective = study.protocol, next(iter(study.search.objective))
    refused = bool(unconfirmed(protocol.select_on, protocol.aggregate))
    return refused or protocol.select_on == "first-k" or objective not in METRICS


def _not_spread(study: Study) -> str:
    """Return why the trials of a study cannot be spread over class orders; empty where they can.

    The published default on every class order tells how far the orders are apart. Only a confirmation
    compares trials of different orders on the same ones.
    """
    search, protocol = study.search, study.protocol
    if protocol.orders > 1:
        return f"gives every trial one class order, but protocol.orders is {protocol.orders}: set it to 1"
    if not isinstance(protocol.confirm, ConfirmPart):
        return "needs a confirmation, but protocol.confirm is none: set it to {top: 3, orders: 2}"
    if "paper" not in search.start_from:
        return "begins with the published default, but search.start_from leaves it out: add paper"
    if search.sampler == "grid":
        return "compares trials on different class orders, but search.sampler is grid: take another"
    return ""
