"""The first screen of the report: the best label of each scenario, its values, how sure, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.lake.amounts import clock, size
from analysis.lake.results import Results
from analysis.report.identity import REFERENCE_COLOURS
from analysis.report.next_steps import Step, next_steps
from analysis.report.section import ROWS
from analysis.selection.in_words import searched_values
from analysis.selection.luck_of_selection import luck_of_selection
from analysis.selection.selection import (
    Cell,
    cells,
    order_searches,
    orders_sentence,
    split_of,
    split_selected_on,
)
from analysis.statistics.intervals import ALPHA, FEWEST, Mean
from analysis.statistics.sample import Sample, measured, recorded
from cl_core.metrics import METRICS

COSTS = {"kept_bytes": "bytes kept", "parameters": "parameters", "seconds": "s a run"}
SHOWN = ("last_accuracy", "forgetting")
UNBROKEN = ("bytes kept", "kept bytes", "parameters")  # columns of whole numbers


@dataclass(frozen=True)
class Lead:
    """The sentence on one scenario."""

    scenario: str
    text: str


@dataclass(frozen=True)
class FirstScreen:
    """The part above all sections; `how` says how the numbers of `table` were measured."""

    leads: list[Lead]
    table: pd.DataFrame | None
    how: str
    steps: list[Step]


@dataclass(frozen=True)
class _Standing:
    """A cell with its objective, its metrics and costs over class orders."""

    cell: Cell
    objective: Sample
    values: Mapping[str, Sample]
    luck: float | None  # of the selection, taken out of the objective and, by their own, of the metrics


def first_screen(results: Results) -> FirstScreen:
    """The answer of a study. Cells that search class orders are left out: they compare no methods."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    steps = next_steps(results)
    if not compared:
        text = "No run has completed yet, so there is no answer."
        if any(len(cell.best) for cell in order_searches(results)):
            text = "Only searches of class orders have completed runs, and they compare no methods."
        return FirstScreen([Lead("", text)], None, "", steps)
    split = split_of(results, compared)
    name, direction = results.study.objective
    found = [_standing(results, cell, split, name) for cell in compared]
    known = [one for one in found if one.objective]
    groups = {
        s: _sorted([one for one in known if one.cell.scenario == s], direction) for s in results.scenarios
    }
    leads = [Lead(s, _sentence(results, s, group, split)) for s, group in groups.items() if group]
    if not leads:
        leads = [Lead("", f"The objective, {_said(name)}, is known of no selected trial.")]
    rows = [_row(results, one, name) for group in groups.values() for one in group]
    table = pd.DataFrame(rows) if rows else None
    if table is not None:
        empty = [c for c in table.columns if table[c].isna().all()]
        empty += ["values"] if (table["values"] == "").all() else []
        empty += ["scenario"] if len(groups) == 1 else []
        table = table.drop(columns=empty)
    how = f"Measured on {ROWS[split]}; {orders_sentence(compared)}. Forgetting: lower is better."
    if any(one.luck for one in found):
        how += " The expected luck of the selection is taken out, as in the leaderboard."
    return FirstScreen(leads, table, how, steps)


def _standing(results: Results, cell: Cell, split: str, name: str) -> _Standing:
    known = measured(results, cell.best, split)
    goal = known[name] if name in METRICS else recorded(results, cell.best, name)
    luck = luck_of_selection(results, cell, list(known)) if split == split_selected_on(results) else {}
    values = {key: _less(Sample.of(known[key]), luck.get(key, 0.0)) for key in SHOWN}
    values |= {key: Sample.of(recorded(results, cell.best, key)) for key in COSTS if key in cell.best}
    return _Standing(cell, _less(Sample.of(goal), luck.get(name, 0.0)), values, luck.get(name))


def _less(sample: Sample, amount: float) -> Sample:
    """A sample whose values are lower by an amount."""
    return replace(sample, values={order: value - amount for order, value in sample.values.items()})


def _sorted(group: Sequence[_Standing], direction: str) -> list[_Standing]:
    sign = -1 if direction == "max" else 1
    return sorted(group, key=lambda one: sign * (one.objective.mean.value or 0.0))


def _sentence(results: Results, scenario: str, group: Sequence[_Standing], split: str) -> str:
    """The best label, its distance to the next one, its values and its cost."""
    name, direction = results.study.objective
    methods = [one for one in group if one.cell.method not in REFERENCE_COLOURS] or list(group)
    best = methods[0]
    high = "highest" if direction == "max" else "lowest"
    verb = f"has the {high}" if len(methods) > 1 else "reaches"
    reached = _amount(name, best.objective.mean)
    rows = f" on {ROWS[split]}" if name in METRICS else ""
    text = f"{scenario}: {best.cell.label} {verb} {_said(name)}, {reached}{rows}."
    if len(methods) > 1:
        text += f" {_distance(best, methods[1], name, 1 if direction == 'max' else -1)}"
    values, cost = _values(results, best.cell), _cost(best)
    chosen = "has every value fixed" if results.study.protocol.select_on == "fixed" else "is selected"
    says = [f"has {values}"] if values else [chosen]
    says += [f"it {cost}"] if cost else []
    return f"{text} {_upper(best.cell.selected_name)} {'; '.join(says)}."


def _said(name: str) -> str:
    """The objective in words."""
    return "training time" if name == "seconds" else name.replace("_", " ")


def _amount(name: str, mean: Mean, counted: bool = True) -> str:
    """A mean of the objective with its interval, a cost in its own unit; with n unless `counted` is off."""
    digits = 3 if name in METRICS else 1 if name == "seconds" else 0
    unit = {"seconds": " s", "kept_bytes": " bytes"}.get(name, "")
    half = "" if mean.half is None else f" ± {mean.half:,.{digits}f}"
    return f"{mean.value or 0.0:,.{digits}f}{half}{unit}" + (f" (n = {mean.n})" if counted else "")


def _distance(best: _Standing, second: _Standing, name: str, sign: int) -> str:
    """The difference of two selected trials in words: beyond chance, perhaps chance, or not known.

    `sign` is 1 where a greater objective is better, else -1.
    """
    pair = f"{best.cell.label} and {second.cell.label}"
    difference = best.objective - second.objective
    found, p = difference.mean, difference.p_of_zero
    if found.value is None:
        return f"{second.cell.label} follows; the two share no class order, so they cannot be compared."
    apart = _amount(name, replace(found, value=abs(found.value)), counted=False)
    if not round(found.value, 9):
        behind = f"{second.cell.label} has the same value"
    elif sign * found.value > 0:
        behind = f"{second.cell.label} follows, {apart} behind"
    else:
        behind = f"{second.cell.label} follows, though {apart} ahead on the class orders that both have"
    if p is None:
        orders = f"{found.n} class order{'s' if found.n > 1 else ''}"
        return f"{behind}, over {orders}: fewer than {FEWEST} decide nothing."
    trials = sorted({one.cell.runs["trial"].nunique() for one in (best, second)})
    budgets = f", after searches of {trials[0]} and {trials[1]} trials" if len(trials) > 1 else ""
    sure = f"p {'< .001' if p < 0.001 else f'= {p:.3f}'.replace('0.', '.', 1)}{budgets}"
    verdict = "differ" if p <= ALPHA else "cannot be told apart"
    return f"{behind}: the selected trials of {pair} {verdict} ({sure})."


def _values(results: Results, cell: Cell) -> str:
    trial = cell.selected_trial
    return "" if trial is None else searched_values(results, cell, trial)


def _cost(one: _Standing) -> str:
    """The cost of the best label: bytes kept, parameters, seconds."""
    known = {key: sample.mean.value for key, sample in one.values.items() if sample}
    parts = []
    if (kept := known.get("kept_bytes")) is not None:
        parts.append(f"keeps {size(kept)} of the past")
    if (held := known.get("parameters")) is not None:
        parts.append(f"holds {held:,.0f} parameters")
    if (seconds := known.get("seconds")) is not None:
        parts.append(f"trains {clock(seconds) if seconds >= 10 else f'{seconds:.1f} s'} a run")
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _row(results: Results, one: _Standing, name: str) -> dict[str, object]:
    cell = one.cell
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label}
    row["selected"] = cell.selected_name if cell.selected_trial is not None else None
    title = f"{_said(name)}, s" if name == "seconds" else _said(name)
    samples = {title: one.objective} | {key.replace("_", " "): one.values[key] for key in SHOWN}
    samples |= {title: one.values[key] for key, title in COSTS.items() if key in one.values and key != name}
    for title, sample in samples.items():
        known = sample.mean
        row[title] = known.value
        row[f"{title} ±"] = known.half if title not in UNBROKEN or known.half else None
    for title in UNBROKEN:
        if row.get(title) is not None:
            row[title] = round(float(str(row[title])))
    row["values"] = _values(results, cell)
    return row


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
