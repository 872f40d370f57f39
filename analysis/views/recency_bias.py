"""How much a classifier prefers the newest task, after every task."""

from __future__ import annotations

import pandas as pd

from analysis.load import Results
from analysis.section import VIEWS, Section
from analysis.selection import cells, orders_sentence, split_of, split_sentence
from analysis.stats import over_orders
from analysis.style import colours, curve, panels, place
from cl_core.metrics import FORMULAS, new_to_old, old_to_new, recency_ratio

TITLE = "Recency bias"


@VIEWS.register("recency_bias")
def recency_bias(results: Results) -> Section:
    """The recency ratio after each task from the second on, each classifier apart."""
    chosen = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, chosen)
    lines, rows = [], []
    for cell in chosen:
        for rank, classifier in enumerate(results.classifiers(str(cell.best["trial"].iloc[0]), split)):
            points: dict[int, list[tuple[str, float | None]]] = {}
            ends: dict[str, list[tuple[str, float | None]]] = {"old → new": [], "new → old": []}
            for trial, order in zip(cell.best["trial"], cell.best["class_order"], strict=True):
                if classifier not in results.classifiers(trial, split):
                    continue
                counts, sizes = results.confusions(trial, split, classifier), results.sizes(trial)
                for task, confusion in enumerate(counts[1:], start=1):
                    points.setdefault(task, []).append((str(order), recency_ratio(confusion, sizes)))
                ends["old → new"].append((str(order), old_to_new(counts[-1], sizes)))
                ends["new → old"].append((str(order), new_to_old(counts[-1], sizes)))
            if not points:
                continue
            means = {task: over_orders(points[task]).value for task in sorted(points)}
            lines.append((cell.scenario, cell.label, rank, classifier, means))
            rates = {name: over_orders(pairs).value for name, pairs in ends.items()}
            gap = [rates["old → new"], rates["new → old"]]
            rows.append(
                {
                    "scenario": cell.scenario,
                    "label": cell.label,
                    "classifier": classifier,
                    "recency ratio at the end": means[max(means)],
                    **rates,
                    "asymmetry": None if gap[0] is None or gap[1] is None else gap[0] - gap[1],
                }
            )
    if not lines:
        return Section(TITLE, "No completed run has a second task, so there is no recency bias to show.")
    names = list(dict.fromkeys(scenario for scenario, *_ in lines))
    figure = panels(names, columns=2, height=300, legend=True)
    colour = colours(results)
    listed: set[tuple[str, str]] = set()
    for scenario, label, rank, classifier, values in lines:
        shown = (label, classifier) not in listed
        line = curve(
            label,
            classifier,
            rank,
            list(values),
            list(values.values()),
            colour[label],
            "task %{x}: %{y:.2f}",
            shown,
        )
        figure.add_trace(line, **place(names.index(scenario), figure))
        listed.add((label, classifier))
    figure.add_hline(y=1, line={"dash": "dot", "width": 1.2, "color": "#5b6675"})
    longest = max(max(values) for *_, values in lines)
    figure.update_xaxes(title_text="after task", tickmode="linear", tick0=0, dtick=1 if longest <= 12 else 5)
    figure.update_yaxes(title_text="recency ratio", rangemode="tozero")
    text = (
        f"{split_sentence(results, split)} Above 1 the newest task is answered too often, below 1 too "
        "seldom; its upper "
        "limit is the number of seen rows over those of the newest task. Dotted lines are classifiers "
        "other than a "
        "method's own."
    )
    formulas = [
        f"{name.replace('_', ' ')}: {FORMULAS[name]}"
        for name in ("recency_bias", "recency_ratio", "old_to_new", "new_to_old", "asymmetry")
    ]
    return Section(TITLE, text, formulas, orders_sentence(chosen), pd.DataFrame(rows), figure)
