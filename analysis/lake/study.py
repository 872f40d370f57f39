"""What study.yaml says that views need: objectives, labels, scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.lake.results import Results
from cl_core.metrics import OBJECTIVES

ORACLE = "selected on the test split (oracle-test)"


def objective(results: Results) -> tuple[str, str]:
    """The first objective of a study and its direction, max or min."""
    return next(iter(objectives(results).items()))


def objectives(results: Results) -> dict[str, str]:
    """The objectives of a study: name -> max or min."""
    search = results.study.get("search")
    named = search.get("objective") if isinstance(search, Mapping) else None
    if isinstance(named, Mapping) and named:
        return {str(name): str(direction) for name, direction in named.items()}
    if isinstance(named, str):
        return {named: OBJECTIVES.get(named, ("max", ""))[0]}
    return {"average_incremental_accuracy": "max"}


def starts_from_paper(results: Results) -> bool:
    """Whether configuration 0 of every cell holds the published defaults."""
    search = results.study.get("search")
    start = search.get("start_from", ["paper"]) if isinstance(search, Mapping) else ["paper"]
    return "paper" in ([start] if isinstance(start, str) else start or [])


def labels(results: Results) -> list[str]:
    """The labels of a study in its order; those found in the tables alone come last."""
    return _ordered(_names(results.study.get("methods")), results.runs["label"])


def scenarios(results: Results) -> list[str]:
    """The scenarios of a study in its order; those found in the tables alone come last."""
    return _ordered(_names(results.study.get("scenarios")), results.runs["scenario"])


def sought(results: Results) -> dict[str, str]:
    """The scenarios in which class orders are searched: name -> hardest or easiest."""
    found = results.study.get("scenarios")
    said = [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
    return {
        str(item.get("name")): str(item["class_order"])
        for item in said
        if item.get("class_order") in ("hardest", "easiest")
    }


def worst_case(results: Results) -> str:
    return "worst-case" if protocol_of(results).get("aggregate") == "worst" else ""


def _names(value: Any) -> list[str]:
    """The names in a study's list or mapping of methods or scenarios."""
    if isinstance(value, Mapping):
        return [str(name) for name in value]
    if not isinstance(value, list):
        return []
    out = []
    for item in value:
        if isinstance(item, Mapping):
            out.append(str(item.get("name") or item.get("label") or next(iter(item), "")))
        else:
            out.append(str(item))
    return out


def _ordered(first: list[str], found: pd.Series) -> list[str]:
    present = {str(name) for name in found}
    return [n for n in dict.fromkeys(first) if n in present] + sorted(present - set(first))


def protocol_of(results: Results) -> dict[str, Any]:
    """The protocol of a study: `select_on` and whatever else is set; validation where nothing is said."""
    found = results.study.get("protocol")
    said = {str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {}
    return {**said, "select_on": str(said.get("select_on") or "validation")}


def label_of(results: Results) -> str:
    """What has to stand by every number of a study; empty where nothing has to."""
    return ORACLE if protocol_of(results)["select_on"] == "oracle-test" else ""
