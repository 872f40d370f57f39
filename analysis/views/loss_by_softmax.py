"""Distillation losses across, softmaxes down: the survey's question on losses in one table a place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.lake.results import Results
from analysis.report.answers import decimal
from analysis.report.section import VIEWS, Section, Table
from analysis.selection.selection import orders_sentence, same_sentence
from analysis.statistics.intervals import INTERVAL
from analysis.survey.roles import LEVELS, WEAK_CE, Place, Roles, Subject
from cl_core.metrics import FORMULAS

TITLE = "Loss and softmax"
_METRIC = "average_incremental_accuracy"
_PAIRS = {"replay": ("separated", "global"), "distill": ("new_only", "all_seen")}
_WITH = {"replay": "With replay", "distill": "Without replay"}


@VIEWS.register("loss_by_softmax")
def loss_by_softmax(results: Results) -> Section:
    """Average incremental accuracy by distillation loss and softmax, and the gain of the first softmax."""
    roles = Roles(results)
    subjects = [s for s in roles.subjects if s.method in _PAIRS and len(s.runs) and not s.variant]
    tables, said, shown = [], [], []
    for method, scopes in _PAIRS.items():
        for place in roles.places:
            here = [s for s in subjects if s.place == place and s.method == method and s.scope in scopes]
            losses = [loss for loss in _ordered(here) if all(_find(here, loss, x) for x in scopes)]
            if len({s.loss for s in here}) < 2 or not losses:
                continue
            shown += here
            tables.append(Table(f"{_WITH[method]}, {place}", _frame(roles, here, scopes), group="level"))
            said.append(_gain(roles, here, losses, method, place, scopes))
    if not tables:
        text = "No two distillation losses have completed runs under two softmaxes of one method."
        return Section(TITLE, text, optional=True)
    text = (
        f"{same_sentence(roles.split)} Rows are losses, columns softmaxes; a loss that was not measured with "
        "both has no difference. Differences are paired by class order."
    )
    return Section(
        TITLE,
        text,
        [f"average incremental accuracy: {FORMULAS[_METRIC]}", INTERVAL],
        orders_sentence([s.cell for s in shown]),
        tables=tables,
        optional=True,
        split=roles.split,
        question="What does separating the softmax change for each distillation loss?",
        answer=" ".join(said),
    )


def _ordered(here: Sequence[Subject]) -> list[str]:
    """The losses that are there, in the survey's order."""
    known = [loss for group in LEVELS.values() for loss in group]
    known.insert(known.index("cross-entropy") + 1, WEAK_CE)
    found = {s.loss for s in here}
    return [loss for loss in known if loss in found] + sorted(found - set(known))


def _find(here: Sequence[Subject], loss: str, scope: str) -> Subject | None:
    return next((s for s in here if s.loss == loss and s.scope == scope), None)


def _frame(roles: Roles, here: Sequence[Subject], scopes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for loss in _ordered(here):
        found = [_find(here, loss, scope) for scope in scopes]
        row: dict[str, Any] = {"level": next(s.level for s in found if s is not None), "loss": loss}
        for scope, subject in zip(scopes, found, strict=True):
            mean = roles.sample(subject, _METRIC).mean if subject else None
            row[_words(scope)], row[f"{_words(scope)} ±"] = mean and mean.value, mean and mean.half
        first, second = found
        gap = (
            (roles.sample(first, _METRIC) - roles.sample(second, _METRIC)).mean if first and second else None
        )
        rows.append(row | {"difference": gap and gap.value, "difference ±": gap and gap.half})
    return pd.DataFrame(rows).astype({"difference": float})


def _words(scope: str) -> str:
    return f"{scope.replace('_', ' ')} softmax"


def _gain(
    roles: Roles,
    here: Sequence[Subject],
    losses: Sequence[str],
    method: str,
    place: Place,
    scopes: Sequence[str],
) -> str:
    gains = []
    for loss in losses:
        first, second = (_find(here, loss, scope) for scope in scopes)
        if first is not None and second is not None:
            gap = (roles.sample(first, _METRIC) - roles.sample(second, _METRIC)).mean
            gains += [] if gap.value is None else [gap.value]
    return (
        f"{_WITH[method]} in {place}, the {_words(scopes[0])} gives {decimal(float(np.mean(gains)), '+')} "
        f"over the {_words(scopes[1])}, mean over {len(gains)} {'loss' if len(gains) == 1 else 'losses'}."
    )
