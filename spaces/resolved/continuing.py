"""Continue a study in its run folder: what may grow, and what may not change.

Trials, methods, scenarios, class orders and seeds may grow. The confirmation of the selection, the place of
the data, resources and storage may change, except the place of Optuna's studies. Everything else must stay
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_core.errors import BadRequest
from spaces.study.confirmation import AUTO
from spaces.study.messages import cut
from spaces.study.storage import StoragePart
from spaces.study.study import Study, flat
from spaces.study.study_file import standing_study


def grown(existing: Mapping[str, Any], new: Study) -> Study:
    """Return `new` grown by the study of a run folder, whose study.yaml is `existing`.

    The larger number of trials, orders and seeds wins. Methods and scenarios are united, the old ones first.
    The confirmation, the spread over class orders, and the probability that keeps the default, stay where
    `new` does not set them.
    Raises BadRequest, which names the first key that may not change.
    """
    old = standing_study(existing)
    _same(old.fixed_part(), new.fixed_part(), "")
    if old.search.stopper != "none":
        # Stoppers compare runs by their position in the trial, which more runs would move.
        for key in ("orders", "seeds"):
            before, now = getattr(old.protocol, key), getattr(new.protocol, key)
            if now > before:
                raise BadRequest(
                    f"protocol.{key} may not grow from {before} to {now} where search.stopper "
                    f"{old.search.stopper} has compared runs: use another --out"
                )
    if new.protocol.spread not in (AUTO, old.protocol.spread):
        _same({"spread": old.protocol.spread}, {"spread": new.protocol.spread}, "protocol.")
    for label, entry in old.methods.items():
        if label in new.methods:
            _same(flat(entry.model_dump()), flat(new.methods[label].model_dump()), f"methods.{label}.")
    scenarios = {spec.name: spec for spec in old.specs()}
    for spec in new.specs():
        if spec.name in scenarios:
            _same(flat(scenarios[spec.name].to_dict()), flat(spec.to_dict()), f"scenarios.{spec.name}.")
        scenarios.setdefault(spec.name, spec)
    set_anew = "keep_default" in new.protocol.model_fields_set
    larger = {
        "search": new.search.model_copy(
            update={
                "trials": max(old.search.trials, new.search.trials),
                "objective": old.search.objective,  # the same ones, and their order stays
            }
        ),
        "protocol": new.protocol.model_copy(
            update={
                "confirm": old.protocol.confirm if new.protocol.confirm == AUTO else new.protocol.confirm,
                "keep_default": (new if set_anew else old).protocol.keep_default,
                "spread": old.protocol.spread,
                "orders": max(old.protocol.orders, new.protocol.orders),
                "seeds": max(old.protocol.seeds, new.protocol.seeds),
            }
        ),
        "methods": {**old.methods, **{k: v for k, v in new.methods.items() if k not in old.methods}},
        "scenarios": [spec.to_dict() for spec in scenarios.values()],
        "storage": _same_studies(old.storage, new.storage),
    }
    return new.model_copy(update=larger)


def _same_studies(old: StoragePart, new: StoragePart) -> StoragePart:
    """Return the storage of `new`, with Optuna's studies at the place of `old`. Raises BadRequest."""
    before, now = old.optuna or "journal", new.optuna or old.optuna or "journal"
    if _place(before) != _place(now):
        raise BadRequest(
            f"storage.optuna was {before} when this folder was begun and is {now} now: set it back, or, if "
            "the studies were moved, write the new place in the folder's study.yaml"
        )
    return new.model_copy(update={"optuna": new.optuna or old.optuna})


def _place(optuna: str) -> str:
    """Return the place of the studies, without the driver."""
    scheme, colon, rest = optuna.partition("://")
    return scheme.split("+")[0] + colon + rest


def _same(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> None:
    for key in (*old, *(k for k in new if k not in old)):
        if key not in old or key not in new or old[key] != new[key]:
            before, now = (cut(side[key]) if key in side else "not set" for side in (old, new))
            raise BadRequest(
                f"{prefix}{key} was {before} when this folder was begun and is {now} now: "
                "set it back, or use another --out"
            )
