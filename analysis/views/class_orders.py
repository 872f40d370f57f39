"""The share of the class order in a result: one trial under several orders."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import fade, panels, place
from analysis.selection.class_orders import NATURAL, Orders, orders_of, range_of_noise
from analysis.selection.selection import rows_selected_on, split_selected_on
from cl_core.metrics import OBJECTIVES

TITLE = "Class orders"
LONGEST = 600  # characters of an order in class names
MANY = 15  # pairs of labels, beyond which their table is folded
PAIRS = 150  # pairs of labels that their table shows

TEXT = (
    "Every value belongs to one class order, averaged over its seeds, under one and the same setting of the "
    "hyperparameters: the one that ran under the most orders, the published one first. “Drawn” orders are "
    "natural, seed:K and those given, and what a search for the hardest or easiest order drew at random "
    "before it learnt: their mean and sd speak of class orders at large.\n\n"
    "The extremes are over all orders tried, also those that a search went for. They are bounds from within, "
    "which move apart with every further order tried: compare them only where as many were. An extreme is "
    "selected on the rows and seeds that it is measured on, so part of it is noise: run its order again "
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
    "swaps by chance: the share 1 − 2^{1−n} of pairs with n common orders would swap if labels "
    "did not differ",
    "overlap: a pair whose intervals from hardest to easiest meet",
]


@VIEWS.register("class_orders")
def class_orders(results: Results) -> Section:
    """Per label and split: natural, mean and extremes over class orders, against seeds and other methods."""
    name, direction = results.study.objective
    found = orders_of(results, name, direction)
    if not found:
        return Section(TITLE, "No label has run one trial under two class orders of a split.", optional=True)
    pairs = [pair for split in _splits(found) for pair in _pairs([o for o in found if o.split == split])]
    tables = [Table("Class order against method", _against(found, pairs), group="split")]
    tables.append(Table("The orders at the ends", _ends(results, found), group="label", folded=True))
    tables += [_closest(pairs)] if pairs else []
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
        question="How much does the order of classes matter?",
        answer=_answer(found, name),
    )


def _answer(found: Sequence[Orders], name: str) -> str:
    """The sentence on the range over class orders."""
    widest = max(found, key=lambda o: o.range)
    mean = float(np.mean([o.range for o in found]))
    return (
        f"From the hardest to the easiest order tried, {name.replace('_', ' ')} changes by {mean:.3f} on "
        f"average; most for {widest.label} on {widest.split}, by {widest.range:.3f} over "
        f"{plural(len(widest.values), 'order')}."
    )


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
        "range of noise": range_of_noise(o),
        "sd of seeds": o.seeds,
    }


def _splits(found: Iterable[Orders]) -> list[str]:
    return list(dict.fromkeys(o.split for o in found))


def _pairs(here: Sequence[Orders]) -> list[dict[str, Any]]:
    """Every two labels of a split that ran a common class order."""
    out: list[dict[str, Any]] = []
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
                "swaps by chance": _swaps_by_chance(judged),
                "pairs that overlap": _share(mine, "overlap"),
            }
        )
    return pd.DataFrame(rows)


def _share(pairs: Sequence[Mapping[str, object]], key: str) -> str:
    return f"{sum(bool(pair[key]) for pair in pairs)} of {len(pairs)}" if pairs else "–"


def _swaps_by_chance(pairs: Sequence[Mapping[str, object]]) -> str:
    """The number of pairs that would swap if each label were as often the better one as the other."""
    expected = sum(1 - 2.0 ** (1 - int(str(pair["common orders"]))) for pair in pairs)
    return f"{expected:.3g} of {len(pairs)}" if pairs else "–"


def _closest(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """The table of pairs of labels; of many, those whose order is least clear."""
    words = {True: "yes", False: "no", None: "–"}
    least = sorted(pairs, key=lambda pair: min(abs(pair["smallest a − b"]), abs(pair["largest a − b"])))
    kept = {id(pair) for pair in least[:PAIRS]}
    rows = [
        {**pair, "swap": words[pair["swap"]], "overlap": words[pair["overlap"]]}
        for pair in pairs
        if id(pair) in kept
    ]
    text = f"Of {len(pairs):,} pairs, these {PAIRS} are nearest to a tie." if len(pairs) > PAIRS else ""
    folded = len(pairs) > MANY
    return Table("Methods under the same class orders", pd.DataFrame(rows), text, "split", folded=folded)


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
