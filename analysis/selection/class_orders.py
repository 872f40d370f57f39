"""One trial under several class orders: its value on each, and the range that seeds alone would give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from scipy import special

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.statistics.sample import recorded

NATURAL = "natural"


@dataclass(frozen=True)
class Orders:
    """A label on one split: its value under every class order, and where each comes from."""

    label: str
    method: str
    split: str
    values: Mapping[str, float]  # class order -> mean over its seeds
    drawn: Sequence[str]  # the orders that nobody looked for
    sought: Sequence[str]  # what was searched: hardest, easiest
    seeds: float | None  # sd within orders
    error: float  # of the counts of one run; 0 where nobody ran two seeds
    repeats: int  # seeds of an order
    runs: Mapping[str, str]  # class order -> one of its runs
    direction: str

    def extreme(self, which: str) -> str:
        """The hardest or easiest order tried; of equal ones the first by name."""
        worst = (which == "hardest") == (self.direction == "max")
        return (min if worst else max)(sorted(self.values), key=self.values.__getitem__)

    @property
    def lowest(self) -> float:
        """The smallest value."""
        return min(self.values.values())

    @property
    def highest(self) -> float:
        """The largest value."""
        return max(self.values.values())

    @property
    def range(self) -> float:
        """The distance of the two extremes."""
        return self.highest - self.lowest


def orders_of(results: Results, name: str, direction: str) -> list[Orders]:
    """Every label and split of which one trial ran under two class orders or more."""
    runs = results.runs
    done = runs[(runs["status"] == "completed") & (runs["purpose"] == "search")]
    done = done.assign(objective=done["objective"].fillna(done[name]) if name in done else done["objective"])
    done = done[done["objective"].notna()]
    if done.empty:
        return []
    seeks, random = results.study.seeks, _random_first(results)
    varied = [c for c in done.columns if c.startswith(ADDED) or c == "net"]
    several = done["dataset"].nunique() > 1
    sizes = done["base"].astype(str) + "," + done["increments"].fillna("").astype(str)
    sizes = sizes.str.strip(",").str.replace(",", "+")
    done = done.assign(
        tasks_=done["dataset"] + " · " + sizes if several else sizes,
        order=[_named(order) for order in done["class_order"]],
        setting=[repr(tuple(map(str, row))) for row in done[varied].itertuples(index=False)],
        seeks=[seeks.get(scenario, "") for scenario in done["scenario"]],
    )
    done["drawn"] = (done["seeks"] == "") | (done["order"] == NATURAL) | (done["trial"] < random)
    out = []
    groups = {
        (str(s), str(label)): runs for (s, label), runs in done.groupby(["tasks_", "label"], sort=False)
    }
    for split in dict.fromkeys(map(str, done["tasks_"])):
        for label in results.labels:
            if (split, label) in groups:
                one = _orders(results, groups[split, label], label, split)
                out += [one] if len(one.values) > 1 else []
    return out


def _orders(results: Results, runs: pd.DataFrame, label: str, split: str) -> Orders:
    """The setting with the most class orders, the earliest of those with as many."""
    settings = runs.groupby("setting", sort=False).agg(orders=("order", "nunique"), trial=("trial", "min"))
    best = settings.sort_values(["orders", "trial"], ascending=[False, True], kind="stable").index[0]
    mine = runs[runs["setting"] == best].sort_values(["order", "seed", "run"], kind="stable")
    once = mine.drop_duplicates(["order", "seed"])  # an order that two cells ran has the same numbers in both
    seeds = once.groupby("order")["seed"].transform("size")
    once = once[seeds == seeds.max()]
    first = once.drop_duplicates("order")
    spread = once.groupby("order")["objective"].var(ddof=1).dropna()
    name, direction = results.study.objective
    twice = once if len(spread) else once.iloc[:0]
    errors = [one.error for _, one in recorded(results, twice, "objective", name)]
    return Orders(
        label=label,
        method=str(mine["method"].iloc[0]),
        split=split,
        values={str(order): float(v) for order, v in once.groupby("order")["objective"].mean().items()},
        drawn=sorted(set(mine.loc[mine["drawn"], "order"])),
        sought=[which for which in ("hardest", "easiest") if which in set(mine["seeks"])],
        seeds=float(np.sqrt(spread.mean())) if len(spread) else None,
        error=float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0,
        repeats=int(seeds.max()),
        runs=dict(zip(first["order"], first["run"], strict=True)),
        direction=direction,
    )


def _named(order: str) -> str:
    """A class order, that of the data set by its name also where it is written out."""
    parts = str(order).removeprefix("list:").split("-")
    return NATURAL if parts == [str(c) for c in range(len(parts))] else str(order)


def _random_first(results: Results) -> float:
    """Count the random draws of a search for a class order, the natural order included."""
    study = results.study
    if study.sampler == "random":
        return float("inf")
    if any(source != "paper" for source in study.start_from):
        return 0.0  # it had learnt something before its first
    name = "population_size" if study.sampler == "nsga2" else "n_startup_trials"
    return float(study.sampler_args.get(name, 0))


def range_of_noise(o: Orders) -> float | None:
    """The expected range of as many normal values with the seeds' sd alone, or that of counts if larger."""
    if o.seeds is None:
        return None
    n = len(o.values)

    def apart(x: float) -> float:
        below = float(special.ndtr(x))
        return 1 - below**n - (1 - below) ** n

    return float(scipy.integrate.quad(apart, -9.0, 9.0)[0]) * max(o.seeds, o.error) / math.sqrt(o.repeats)
