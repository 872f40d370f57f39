"""Which label is best in each scenario, against joint training, fine-tuning and its own defaults."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.load import Results
from analysis.section import VIEWS, Section
from analysis.selection import (
    Cell,
    cells,
    final_default,
    objective,
    order_searches,
    orders_sentence,
    rows_selected_on,
    split_of,
    split_sentence,
)
from analysis.stats import Mean, over_orders, paired
from analysis.style import REFERENCES, colours, panels, place
from cl_core.metrics import FORMULAS, summary

SHOWN = {
    "first_task_accuracy": "first-task accuracy",
    "average_incremental_accuracy": "average incremental accuracy",
    "average_incremental_accuracy_without_first": "without first task",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}

APART = (
    "Searches for the hardest or easiest class order are no cells of this table: what they find is the worst "
    "or the best order of a method, shown under Class orders."
)


@VIEWS.register("leaderboard")
def leaderboard(results: Results) -> Section:
    """One row a cell: accuracy, forgetting, cost, and the distance to the references of its scenario."""
    chosen = cells(results)
    name, direction = objective(results)
    searches = order_searches(results)
    if not chosen:
        if searches:
            return Section("Leaderboard", f"No run of a cell that compares methods has ended yet. {APART}")
        return Section("Leaderboard", "No run has ended yet, so there is nothing to rank.")
    split = split_of(results, chosen)
    metrics = {cell.name: _metrics(results, cell.best, split) for cell in chosen}
    rows = [_row(results, cell, chosen, metrics, split, name) for cell in chosen]
    table = pd.DataFrame(rows)
    table = table.drop(columns=[c for c in table.columns if c.endswith(" ±") and table[c].isna().all()])
    text = (
        f"{split_sentence(results, split)}\n\n"
        "“To joint” and “to fine-tuning” are differences of last accuracy within the scenario. Averages "
        "over tasks are "
        "not comparable across scenarios: with a base task they run over more classes. "
        f"“Default” is {name.replace('_', ' ')} of the published values on "
        f"{_rows_of_default(results, chosen)}. "
        "A run is one configuration with one class order and seed; “s in all”, done, stopped and failed "
        "count the runs of the search. "
        f"The figure shows {name.replace('_', ' ')} on {rows_selected_on(results)}: filled marks are "
        "the best configuration, rings the "
        "published values, the dotted line joint training."
    )
    text += f"\n\n{APART}" if searches else ""
    formulas = [f"{title}: {FORMULAS[key]}" for key, title in SHOWN.items()]
    formulas.append(
        "bytes kept: exemplars, prototypes, covariances and generators after the last task; no networks"
    )
    formulas.append("s: seconds of training as recorded with each task, a shared first task in every run")
    return Section(
        "Leaderboard",
        text,
        formulas,
        orders_sentence(chosen),
        table,
        _figure(results, chosen, name, direction),
    )


def _metrics(results: Results, runs: pd.DataFrame, split: str) -> dict[str, list[tuple[str, float | None]]]:
    """Metric -> pairs of (class order, value) over the runs, by the primary classifier on `split`."""
    out: dict[str, list[tuple[str, float | None]]] = {key: [] for key in SHOWN}
    for trial, order in zip(runs["trial"], runs["class_order"], strict=True):
        counts = results.confusions(trial, split)
        values = summary(counts, results.sizes(trial)) if counts else {}
        for key in SHOWN:
            out[key].append((str(order), values.get(key)))
    return out


def _row(
    results: Results,
    cell: Cell,
    chosen: list[Cell],
    metrics: dict[str, dict[str, list[tuple[str, float | None]]]],
    split: str,
    name: str,
) -> dict[str, object]:
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label, "best no.": cell.number}
    for key, title in SHOWN.items():
        value = over_orders(metrics[cell.name][key])
        row[title], row[f"{title} ±"] = value.value, value.half
    for title, method in (("to joint", "joint"), ("to fine-tuning", "finetune")):
        value = Mean(None, None, 0)
        reference = _reference(cell, chosen, method)
        if reference is not None:
            value = paired(metrics[cell.name]["last_accuracy"], metrics[reference.name]["last_accuracy"])
        row[title], row[f"{title} ±"] = value.value, value.half
    row["default"] = _mean((final_default(results, cell) if _final(cell) else cell.default)["objective"])
    last = results.stages[results.stages["trial"].isin(cell.best["trial"])]
    last = last[last.groupby("trial")["task"].transform("max") == last["task"]]
    kept = _mean(last["kept_bytes"])
    row["bytes kept"] = None if kept is None else round(kept)
    row["s a run"] = _mean(cell.best["seconds"])
    row["s in all"] = float(cell.trials["seconds"].fillna(0).sum())
    row["done"] = cell.count("completed")
    row["stopped"] = cell.count("stopped")
    row["failed"] = cell.count("failed")
    return row


def _reference(cell: Cell, chosen: list[Cell], method: str) -> Cell | None:
    """The cell of `method` in the same scenario, the label that is named as the method first."""
    found = [c for c in chosen if c.scenario == cell.scenario and c.method == method and len(c.best)]
    found.sort(key=lambda c: c.label != method)
    return found[0] if found and cell.method != method else None


def _final(cell: Cell) -> bool:
    """Whether a cell is shown by its final runs."""
    return bool((cell.best["purpose"] == "final").any())


def _rows_of_default(results: Results, chosen: list[Cell]) -> str:
    return "test rows, by its final runs" if any(map(_final, chosen)) else rows_selected_on(results)


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _figure(results: Results, chosen: list[Cell], name: str, direction: str) -> go.Figure | None:
    """The objective of each cell's best (filled) and default (open) configuration; a panel a scenario."""
    shown = [cell for cell in chosen if len(cell.selected)]
    if not shown:
        return None
    names = list(dict.fromkeys(cell.scenario for cell in shown))
    tall = max(sum(cell.scenario == scenario for cell in shown) for scenario in names)
    figure = panels(names, columns=2, height=40 + 30 * tall)
    colour = colours(results)
    score = {
        cell.name: over_orders(zip(cell.selected["class_order"], cell.selected["objective"], strict=True))
        for cell in shown
    }
    for index, scenario in enumerate(names):
        where = place(index, figure)
        mine = [cell for cell in shown if cell.scenario == scenario]
        for cell in sorted(mine, key=lambda c: score[c.name].value or 0.0, reverse=direction == "min"):
            best = score[cell.name]
            hollow = {"color": "rgba(255,255,255,0)", "line": {"width": 1.8, "color": colour[cell.label]}}
            figure.add_trace(
                go.Scatter(
                    x=[best.value],
                    y=[cell.label],
                    mode="markers",
                    marker={"size": 11, "color": colour[cell.label]},
                    error_x={"type": "data", "array": [best.half or 0.0], "visible": best.half is not None},
                    hovertemplate=f"{cell.label}: best, no. {cell.number}<br>%{{x:.3f}}<extra></extra>",
                ),
                **where,
            )
            figure.add_trace(
                go.Scatter(
                    x=[_mean(cell.default["objective"])],
                    y=[cell.label],
                    mode="markers",
                    marker={"size": 15, **hollow},
                    hovertemplate=f"{cell.label}: published values, no. 0<br>%{{x:.3f}}<extra></extra>",
                ),
                **where,
            )
        joint = next((score[cell.name].value for cell in mine if cell.method == "joint"), None)
        if joint is not None:
            figure.add_vline(
                x=joint, line={"dash": "dot", "width": 1.2, "color": REFERENCES["joint"]}, **where
            )
    known = [
        v
        for s in score.values()
        if s.value is not None
        for v in (s.value - (s.half or 0), s.value + (s.half or 0))
    ]
    known += [v for cell in shown for v in cell.default["objective"].dropna()]
    pad = max(0.02, 0.06 * (max(known) - min(known)))
    title = f"{name.replace('_', ' ')}, {rows_selected_on(results)}"
    figure.update_xaxes(title_text=title, range=[min(known) - pad, max(known) + pad])
    figure.update_yaxes(type="category", showgrid=True)
    return figure
