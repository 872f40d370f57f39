"""The scenarios of a study as two questions: what a base task is worth, and what larger increments are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.lake.results import Results

BASE, LARGER = "base task", "larger increments"


def split_weights(results: Results, scenarios: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return gain -> weight of each scenario's value in it; a gain that they cannot show is left out.

    `base task`: the mean with a base task less the mean without. `larger increments`: the scenario with the
    largest increments less the one with the smallest, with a base task and without, then their mean.
    """
    runs = results.runs.drop_duplicates("scenario").set_index("scenario")["increments"]
    size = {name: float(np.mean([int(n) for n in runs[name].split(",") if n.strip()])) for name in scenarios}
    groups = by_base(results, scenarios)
    out: dict[str, dict[str, float]] = {}
    if len(groups) == 2:
        out[BASE] = {
            name: sign / len(group) for sign, group in zip((-1, 1), groups, strict=True) for name in group
        }
    varied = [group for group in groups if len({size[name] for name in group}) > 1]
    for group in varied:
        small, large = min(group, key=size.__getitem__), max(group, key=size.__getitem__)
        out.setdefault(LARGER, {}).update({small: -1 / len(varied), large: 1 / len(varied)})
    return out


def by_base(results: Results, scenarios: Sequence[str]) -> list[list[str]]:
    """Return the scenarios without a base task, then those with one; a group that is empty is left out."""
    known = results.study.plain.get("scenarios") or ()
    based = {str(one.get("name")) for one in known if isinstance(one, Mapping) and one.get("base")}
    groups = [[name for name in scenarios if (name in based) is has] for has in (False, True)]
    return [group for group in groups if group]
