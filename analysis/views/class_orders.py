"""How much of a result is the class order: the same trial under several of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats
from scipy.integrate import quad

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import colours, fade, panels, place
from analysis.selection.selection import rows_selected_on, split_selected_on
from analysis.statistics.sample import recorded
from cl_core.metrics import OBJECTIVES

TITLE = "Class orders"
NATURAL = "natural"
LONGEST = 600  # characters of an order in class names
MANY = 15  # pairs of labels, beyond which their table is folded

TEXT = (
    "Every value belongs to one class order, averaged over its seeds, under one and the same setting of the "
    "hyperparameters: the one that ran under the most orders, the published one first. “Drawn” orders are "
    "natural, seed:K and those given, and what a search for the hardest or easiest order drew at random "
    "before it learnt: their mean and sd speak of class orders at large.\n\n"
    "The extremes are over all orders tried, also those that a search went for. They are bounds from within, "
    "which move apart with every further order tried: compare them only where as many were. An extreme is "
    "chosen on the rows and seeds that it is measured on, so part of it is noise: run its order again "
    "(class_order: list:…) with other seeds to see what stays."
)
FORMULAS = [
    "mean, sd: over drawn orders, each the mean of its seeds; sd with n − 1",
    "range: easiest − hardest over all orders tried, as the size of the difference",
    "sd of seeds: the root of the mean variance within orders that have two seeds or more",
    "range of noise: how far n orders would lie apart if seeds alone moved them, n the orders tried: "
    "∫ 1 − Φⁿ − (1 − Φ)ⁿ · sd of seeds / √seeds, the sd no smaller than the error of one run's counts",
    "distance of labels: the largest difference of two labels under the natural order; joint left out",
    "swap: a pair of labels of which each is better under one of the class orders that both ran",
    "overlap: a pair whose intervals from hardest to easiest meet",
]


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


@VIEWS.register("class_orders")
def class_orders(results: Results) -> Section:
    """Per label and split: natural, mean and extremes over class orders, against seeds and other methods."""
    name, direction = results.study.objective
    found = measured(results, name, direction)
    if not found:
        return Section(TITLE, "No label has run one trial under two class orders of a split.", optional=True)
    pairs = [pair for split in _splits(found) for pair in _pairs([o for o in found if o.split == split])]
    tables = [Table("Class order against method", _against(found, pairs), group="split")]
    tables.append(Table("The orders at the ends", _ends(results, found), group="label"))
    if pairs:
        tables.append(
            Table("Methods under the same class orders", _shown(pairs), "", "split", folded=len(pairs) > MANY)
        )
    counts = [len(o.values) for o in found]
    text = f"{TEXT}\n\nThe value is {name.replace('_', ' ')} ({direction}) on {rows_selected_on(results)}."
    if all(o.seeds is None for o in found):
        text += (
            " No order ran with two seeds, so how much of a difference is the seed's is not known "
            "(protocol.seeds: 2)."
        )
    return Section(
        TITLE,
        text,
        [f"{name.replace('_', ' ')}: {OBJECTIVES[name][1]}" if name in OBJECTIVES else name, *FORMULAS],
        f"n = {'–'.join(map(str, sorted({min(counts), max(counts)})))} class orders a label and split",
        pd.DataFrame([_row(o) for o in found]),
        _figure(results, found, name),
        tables,
        optional=True,
        split=split_selected_on(results),
    )


def measured(results: Results, name: str, direction: str) -> list[Orders]:
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
    """How many trials of a search for a class order are random draws, the natural one among them."""
    study = results.study
    if study.sampler == "random":
        return float("inf")
    if any(source != "paper" for source in study.start_from):
        return 0.0  # it had learnt something before its first
    name = "population_size" if study.sampler == "nsga2" else "n_startup_trials"
    return float(study.sampler_args.get(name, 0))


def _row(o: Orders) -> dict[str, object]:
    drawn = [o.values[order] for order in o.drawn]
    return {
        "split": o.split,
        "label": o.label,
        "natural": o.values.get(NATURAL),
        "drawn": len(drawn),
        "mean": float(np.mean(drawn)) if drawn else None,
        "sd": float(np.std(drawn, ddof=1)) if len(drawn) > 1 else None,
        "orders tried": len(o.values),
        "searched for": ", ".join(o.sought) or "–",
        "hardest": o.values[o.extreme("hardest")],
        "easiest": o.values[o.extreme("easiest")],
        "range": o.range,
        "range of noise": _noise(o),
        "sd of seeds": o.seeds,
    }


def _noise(o: Orders) -> float | None:
    """The expected range of as many normal values with the seeds' sd alone, or that of counts if larger."""
    if o.seeds is None:
        return None
    n = len(o.values)

    def apart(x: float) -> float:
        below = float(stats.norm.cdf(x))
        return 1 - below**n - (1 - below) ** n

    return float(quad(apart, -9.0, 9.0)[0]) * max(o.seeds, o.error) / math.sqrt(o.repeats)


def _splits(found: Iterable[Orders]) -> list[str]:
    return list(dict.fromkeys(o.split for o in found))


def _pairs(here: Sequence[Orders]) -> list[dict[str, object]]:
    """Every two labels of a split that ran a common class order."""
    out: list[dict[str, object]] = []
    for a, b in itertools.combinations(here, 2):
        common = sorted(set(a.values) & set(b.values))
        if not common:
            continue
        gaps = [a.values[order] - b.values[order] for order in common]
        out.append(
            {
                "split": a.split,
                "a": a.label,
                "b": b.label,
                "a − b, natural": a.values[NATURAL] - b.values[NATURAL] if NATURAL in common else None,
                "common orders": len(common),
                "smallest a − b": min(gaps),
                "largest a − b": max(gaps),
                "swap": min(gaps) < 0 < max(gaps) if len(common) > 1 else None,
                "overlap": max(a.lowest, b.lowest) <= min(a.highest, b.highest),
            }
        )
    return out


def _against(found: Sequence[Orders], pairs: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """A row a split: what the order moves, what the seed moves, how far the labels are apart."""
    rows = []
    for split in _splits(found):
        here = [o for o in found if o.split == split]
        beside = [o.values[NATURAL] for o in here if NATURAL in o.values and o.method != "joint"]
        mine = [pair for pair in pairs if pair["split"] == split]
        judged = [pair for pair in mine if pair["swap"] is not None]
        seeds = [o.seeds for o in here if o.seeds is not None]
        widest = max(here, key=lambda o: o.range)
        rows.append(
            {
                "split": split,
                "labels": len(here),
                "mean range over orders": float(np.mean([o.range for o in here])),
                "largest": widest.range,
                "of": widest.label,
                "mean sd of seeds": float(np.mean(seeds)) if seeds else None,
                "distance of labels": max(beside) - min(beside) if len(beside) > 1 else None,
                "pairs that swap": _share(judged, "swap"),
                "pairs that overlap": _share(mine, "overlap"),
            }
        )
    return pd.DataFrame(rows)


def _share(pairs: Sequence[Mapping[str, object]], key: str) -> str:
    return f"{sum(bool(pair[key]) for pair in pairs)} of {len(pairs)}" if pairs else "–"


def _shown(pairs: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    words = {True: "yes", False: "no", None: "–"}
    return pd.DataFrame(
        [{**pair, "swap": words[pair["swap"]], "overlap": words[pair["overlap"]]} for pair in pairs]  # type: ignore[index]
    )


def _ends(results: Results, found: Sequence[Orders]) -> pd.DataFrame:
    """The hardest and easiest order of every label and split, in class names by task."""
    ends = [(o, which, o.extreme(which)) for o in found for which in ("hardest", "easiest")]
    classes = results.read("classes", [o.runs[order] for o, _, order in ends])
    groups = dict(iter(classes.groupby("run", sort=False)))
    return pd.DataFrame(
        [
            {
                "split": o.split,
                "label": o.label,
                "order": which,
                "value": o.values[order],
                "classes by task": _in_words(groups.get(o.runs[order]), order),
                "run": o.runs[order],
            }
            for o, which, order in ends
        ]
    )


def _in_words(rows: pd.DataFrame | None, order: str) -> str:
    """A run's classes by task: "cat, dog | car, ship"; the order's own name where the rows are gone."""
    if rows is None or rows.empty:
        return order
    once = rows.drop_duplicates("class").sort_values("class")
    tasks = [", ".join(map(str, group["class_name"])) for _, group in once.groupby("task")]
    said = " | ".join(tasks)
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} …"


def _figure(results: Results, found: Sequence[Orders], name: str) -> go.Figure:
    """A mark a class order, a row a label, a panel a split."""
    splits = _splits(found)
    tall = max(sum(o.split == split for o in found) for split in splits)
    figure = panels(splits, columns=2, height=46 + 32 * tall, legend=True)
    colour = colours(results)
    kinds = (
        ("a class order", lambda o: sorted(o.values), {"symbol": "line-ns", "size": 15}),
        (NATURAL, lambda o: [NATURAL] if NATURAL in o.values else [], {"symbol": "diamond", "size": 11}),
        ("hardest tried", lambda o: [o.extreme("hardest")], {"symbol": "triangle-left", "size": 12}),
        ("easiest tried", lambda o: [o.extreme("easiest")], {"symbol": "triangle-right", "size": 12}),
    )
    listed: set[str] = set()
    for index, split in enumerate(splits):
        for o in reversed([o for o in found if o.split == split]):
            for kind, orders, mark in kinds:
                shown = orders(o)
                ink = fade(colour[o.label], 0.55) if kind == "a class order" else colour[o.label]
                figure.add_trace(
                    go.Scatter(
                        x=[o.values[order] for order in shown],
                        y=[o.label] * len(shown),
                        mode="markers",
                        name=kind,
                        legendgroup=kind,
                        showlegend=bool(shown) and kind not in listed,
                        marker={**mark, "color": ink, "line": {"width": 1.6, "color": ink}},
                        text=[order if len(order) < 60 else f"{order[:57]}…" for order in shown],
                        hovertemplate=f"{o.label}<br>%{{text}}: %{{x:.3f}}<extra></extra>",
                    ),
                    **place(index, figure),
                )
                listed |= {kind} if shown else set()
    figure.update_xaxes(title_text=name.replace("_", " "))
    figure.update_yaxes(type="category")
    return figure
