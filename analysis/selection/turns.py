"""Objectives on one scale where trials take class orders in turn, each on one of them."""

from __future__ import annotations

import pandas as pd

from cl_core.metrics import METRICS


def on_one_scale(runs: pd.DataFrame, turns: int, objective: str) -> pd.DataFrame:
    """Return the runs of a cell's search, with the effect of their class order taken out of `objective`.

    The first trials, one a class order, have the published default. The effect of an order is the difference
    of theirs from that on the first order, and 0 where one of the two has not completed. So values are those
    on the first class order, as the sampler saw them. Values of a cost stay.
    """
    if turns == 1 or objective not in METRICS:
        return runs
    done = runs[(runs["status"] == "completed") & (runs["trial"] < turns)]
    means = done.groupby("trial")["objective"].mean()
    effects = (means - means.get(0, float("nan"))).reindex(range(turns)).fillna(0.0)
    return runs.assign(objective=runs["objective"] - effects.loc[runs["trial"] % turns].to_numpy())
