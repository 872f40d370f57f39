"""Values on one scale where trials take class orders in turn, each on one of them."""

from __future__ import annotations

import pandas as pd

from cl_core.metrics import METRICS
from cl_core.records import trained_by


def turns_sentence(turns: int) -> str:
    """The sentence on trials that took class orders in turn, after a space; empty where there is one."""
    if turns == 1:
        return ""
    return (
        f" In the search, trials took {turns} class orders in turn, and their values are shown as on the "
        "first one."
    )


def on_one_scale(runs: pd.DataFrame, turns: int, objective: str) -> pd.DataFrame:
    """Return the runs of a cell's search, with the effect of their class order taken out of every metric.

    The first trials, one a class order, have the published default. The effect of an order is the difference
    of theirs from that on the first order, and 0 where one of the two has not completed. So values are those
    on the first class order, as the sampler saw them. The column `objective` is a metric where its name
    `objective` is one. Values of a cost stay.
    """
    if turns == 1:
        return runs
    names = [name for name in METRICS if name in runs] + ["objective"] * (objective in METRICS)
    values = runs[names].astype(float)
    default = (runs["status"] == "completed") & (runs["trial"] < turns)
    means = values[default].groupby(runs["trial"]).mean().reindex(range(turns))
    effects = (means - means.loc[0]).fillna(0.0)
    return runs.assign(**(values - effects.loc[runs["trial"].map(trained_by) % turns].set_axis(runs.index)))
