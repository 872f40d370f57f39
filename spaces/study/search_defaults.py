"""Search defaults: what a study uses where it names only a number of trials."""

from __future__ import annotations

from cl_core.metrics import METRICS
from spaces.study.confirmation import AUTO, ConfirmPart
from spaces.study.protocol import unconfirmed
from spaces.study.study import Study

CONFIRMED = {15: ConfirmPart(top=2, orders=2), 25: ConfirmPart(top=3, orders=3)}
"""Trials of a cell, at least -> the confirmation that they pay for. Fewer trials are not confirmed."""


def with_defaults(study: Study) -> Study:
    """Return a study of a new run folder with its automatic settings written out."""
    if study.protocol.confirm != AUTO:
        return study
    paid = [part for least, part in CONFIRMED.items() if least <= study.search.trials]
    return study.confirmed_by(None if _leaves_off(study) or not paid else paid[-1])


def _leaves_off(study: Study) -> bool:
    """Tell whether a study is not confirmed unless it asks for it.

    Fresh class orders of first-k bring classes of later tasks into the first ones. A cost needs no
    confirmation.
    """
    protocol, objective = study.protocol, next(iter(study.search.objective))
    refused = bool(unconfirmed(protocol.select_on, protocol.aggregate))
    return refused or protocol.select_on == "first-k" or objective not in METRICS
