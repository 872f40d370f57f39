"""The best label of each scenario, against joint training, fine-tuning and its own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.dots import dot
from analysis.report.identity import REFERENCE_COLOURS, identities
from analysis.report.section import ROWS, VIEWS, Section, Table
from analysis.report.style import panels, place
from analysis.selection.luck_of_selection import FORMULA, luck_of_selection
from analysis.selection.reference import Reference, reference
from analysis.selection.selection import (
    Cell,
    cells,
    final_default,
    order_searches,
    orders_sentence,
    split_of,
    split_selected_on,
    split_sentence,
)
from analysis.statistics.intervals import INTERVAL, Mean, mean
from analysis.statistics.sample import Sample, measured, recorded
from cl_core.metrics import FORMULAS, METRICS
from cl_core.records import OWN_DEFAULT

METRIC_COLUMNS = {
    "first_task_accuracy": "first-task accuracy",
    "average_incremental_accuracy": "average incremental accuracy",
    "average_incremental_accuracy_without_first": "without first task",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
}

FLOPS = "FLOPs an image"

APART = (
    "Searches for the hardest or easiest class order are no cells of this table: what they find is the worst "
    "or the best order of a method, shown under Class orders."
)


@VIEWS.register("leaderboard")
def leaderboard(results: Results) -> Section:
    """One row a cell: accuracy, forgetting, cost, and the distance to the references of its scenario."""
    compared = cells(results)
    name, direction = results.study.objective
    searches = order_searches(results)
    if not compared:
        if searches:
            return Section("Leaderboard", f"No run of a cell that compares methods has ended yet. {APART}")
        return Section("Leaderboard", "No run has ended yet, so there is nothing to rank.")
    split = split_of(results, compared)
    results.fetch(run for cell in compared for run in cell.default["run"])
    shown = [_shown(results, cell, split, name) for cell in compared]
    table = pd.DataFrame([_row(results, one, shown) for one in shown])
    optional = [c for c in table.columns if c.endswith(" ±") or c in ("luck", "parameters", FLOPS)]
    table = table.drop(columns=[c for c in optional if table[c].isna().all()])
    said = name.replace("_", " ")
    text = (
        f"{split_sentence(results, split)}\n\n"
        "“To joint” and “to fine-tuning” are paired differences of last accuracy to the reference of the "
        "same recipe in the scenario. A recipe that a method brings itself is another one: where no "
        "reference has it, a dash stands, and References says why. Averages over tasks are not comparable "
        "across scenarios: with a base task they run over more classes. "
        f"“Default” is {said} of the published values over the same class orders and seeds; a dash where it "
        "lacks some of them. A run is one trial with one class order and seed; “s in all”, done, "
        "stopped and failed count the runs of the search. "
        f"The figure shows {said}: filled marks are the best trial, rings the published values, "
        "dotted lines joint training."
    )
    if any(one.luck for one in shown):
        text += (
            "\n\nRows with a value under “luck” were selected by values on these rows and class orders, "
            "and the best of many is partly luck. What is expected to be luck is taken out of all metrics, "
            f"of {said} as much as “luck” says: measured was {'more' if direction == 'max' else 'less'}. "
            "Final and confirming runs need no such estimate, so where a row has them it shows these."
        )
    text += f"\n\n{APART}" if searches else ""
    formulas = [f"{title}: {FORMULAS[key]}" for key, title in METRIC_COLUMNS.items()]
    formulas.append(INTERVAL)
    if any(one.luck for one in shown):
        formulas.append(FORMULA)
    formulas.append(
        "bytes kept: exemplars, prototypes, covariances and generators after the last task; no networks"
    )
    if FLOPS in table:
        formulas.append(f"{FLOPS}: {FORMULAS['flops']}; matrix products, convolutions and attention count")
    formulas.append("s: seconds of training as recorded with each task, a shared first task in every run")
    return Section(
        "Leaderboard",
        text,
        formulas,
        orders_sentence(compared),
        table,
        _figure(results, shown, said, direction, split),
        _references(shown),
        split=split if any(len(cell.best) for cell in compared) else "",
        question="Which label is best, and how far is it from joint training?",
        answer=_answer(shown, direction),
    )


def _answer(shown: Sequence[Position], direction: str) -> str:
    """The sentence on the best label of each scenario that is no reference."""
    own = [one for one in shown if one.best and one.cell.method not in REFERENCE_COLOURS]
    parts = []
    for scenario in dict.fromkeys(one.cell.scenario for one in own):
        mine = [one for one in own if one.cell.scenario == scenario]
        best = (max if direction == "max" else min)(mine, key=lambda one: one.best.mean.value or 0.0)
        joint = [one for one in shown if one.best and best.references["joint"].cell is one.cell]
        beside = f", where joint training has {joint[0].best.mean.value:.3f}" if joint else ""
        parts.append(f"{scenario}: {best.cell.label}, {best.best.mean}{beside}")
    more = f"; and {len(parts) - 3} more scenarios" if len(parts) > 3 else ""
    return f"{'; '.join(parts[:3])}{more}." if parts else ""


@dataclass(frozen=True)
class Position:
    """A cell with what is measured of it on the split of the section."""

    cell: Cell
    metrics: Mapping[str, Sample]
    best: Sample  # the first objective
    default: Sample  # the same of the published values, over the same class orders and seeds
    references: Mapping[str, Reference]
    luck: float | None  # that was taken out of `best`, and out of the metrics by their own


def _shown(results: Results, cell: Cell, split: str, name: str) -> Position:
    metrics = {key: Sample.of(found) for key, found in measured(results, cell.best, split).items()}
    default = final_default(results, cell) if _final(cell) else cell.default
    keys = [set(zip(runs["class_order"], runs["seed"], strict=True)) for runs in (cell.best, default)]
    beside = [key in keys[0] for key in zip(default["class_order"], default["seed"], strict=True)]
    default = default.loc[np.array(beside, dtype=bool)] if keys[0] <= keys[1] else default.iloc[:0]
    best, published = (
        Sample.of(measured(results, runs, split)[name] if name in METRICS else recorded(results, runs, name))
        for runs in (cell.best, default)
    )
    references = {method: reference(results, cell, method) for method in ("joint", "finetune")}
    luck = luck_of_selection(results, cell, list(metrics)) if split == split_selected_on(results) else {}
    taken = {key: sample.less(luck.get(key, 0.0)) for key, sample in metrics.items()}
    best = best.less(luck.get(name, 0.0))
    if set(default["run"]) == set(cell.best["run"]):
        published = best
    return Position(cell, taken, best, published, references, luck.get(name))


def _row(results: Results, one: Position, shown: Sequence[Position]) -> dict[str, object]:
    cell = one.cell
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label}
    row["trial"] = "default" if cell.selected_trial == OWN_DEFAULT else cell.selected_trial
    for key, title in METRIC_COLUMNS.items():
        value = one.metrics[key].mean
        row[title], row[f"{title} ±"] = value.value, value.half
    known = {other.cell.name: other.metrics["last_accuracy"] for other in shown}
    for title, method in (("to joint", "joint"), ("to fine-tuning", "finetune")):
        against = one.references[method].cell
        value = (known[cell.name] - known[against.name]).mean if against is not None else mean([])
        row[title], row[f"{title} ±"] = value.value, value.half
    row["luck"] = one.luck
    row["default"] = one.default.mean.value
    last = results.tasks[results.tasks["run"].isin(cell.best["run"])]
    last = last[last.groupby("run")["task"].transform("max") == last["task"]]
    kept = _mean(last["kept_bytes"])
    row["bytes kept"] = None if kept is None else round(kept)
    for name, title in (("parameters", "parameters"), ("flops", FLOPS)):
        size = _mean(last[name])
        row[title] = None if size is None else round(size)
    row["s a run"] = _mean(cell.best["seconds"])
    row["s in all"] = float(cell.runs["seconds"].fillna(0).sum())
    row["done"] = cell.count("completed")
    row["stopped"] = cell.count("stopped")
    row["failed"] = cell.count("failed")
    return row


def _references(shown: Sequence[Position]) -> list[Table]:
    """The label that each row is measured against, where that is not plain from the names."""
    rows = []
    for one in shown:
        if not len(one.cell.best):
            continue
        row: dict[str, object] = {"scenario": one.cell.scenario, "label": one.cell.label}
        for title, method in (("joint", "joint"), ("fine-tuning", "finetune")):
            found = one.references[method].cell
            row[title] = None if found is None else found.label
        lacks = dict.fromkeys(found.lack for found in one.references.values() if found.lack)
        rows.append({**row, "no reference, since": "; ".join(lacks)})
    plain = all(row["joint"] in (None, "joint") and row["fine-tuning"] in (None, "finetune") for row in rows)
    if not rows or (plain and not any("recipe" in str(row["no reference, since"]) for row in rows)):
        return []
    return [Table("References", pd.DataFrame(rows), folded=True)]


def _final(cell: Cell) -> bool:
    """Tell whether a cell is shown by its final runs."""
    return bool((cell.best["purpose"] == "final").any())


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _figure(
    results: Results, found: Sequence[Position], said: str, direction: str, split: str
) -> go.Figure | None:
    """The objective of each cell's best (filled) and default (open) trial; a panel a scenario."""
    shown = [one for one in found if one.best]
    if not shown:
        return None
    names = list(dict.fromkeys(one.cell.scenario for one in shown))
    tall = max(sum(one.cell.scenario == scenario for one in shown) for scenario in names)
    figure = panels(names, columns=2, height=40 + 30 * tall)
    marks = identities(results)
    for index, scenario in enumerate(names):
        where = place(index, figure)
        mine = [one for one in shown if one.cell.scenario == scenario]
        for one in sorted(mine, key=lambda one: one.best.mean.value or 0.0, reverse=direction == "min"):
            cell, best = one.cell, one.best.mean
            text, ink = f"{cell.label}: {cell.selected_name}<br>%{{x:.3f}}", marks[cell.label]
            figure.add_trace(dot(best, cell.label, text, ink, 11), **where)
            published = replace(one.default.mean, half=None)
            text = f"{cell.label}: published values<br>%{{x:.3f}}"
            figure.add_trace(dot(published, cell.label, text, ink, 15, ring=True), **where)
        for one in (one for one in mine if one.cell.method == "joint"):
            line = {"dash": "dot", "width": 1.2, "color": REFERENCE_COLOURS["joint"]}
            figure.add_vline(x=one.best.mean.value, line=line, **where)
    known = [v for one in shown for v in _ends(one.best.mean)]
    known += [v for one in shown for v in one.default.values.values()]
    pad = max(0.02, 0.06 * (max(known) - min(known)))
    rings = any(one.default.values for one in shown)
    title = f"{said}, {ROWS[split]}{'; rings: published values' if rings else ''}"
    figure.update_xaxes(title_text=title, range=[min(known) - pad, max(known) + pad])
    figure.update_yaxes(type="category", showgrid=True)
    return figure


def _ends(best: Mean) -> tuple[float, float]:
    value, half = best.value or 0.0, best.half or 0.0
    return value - half, value + half
