"""The worth of buffer, distillation weight, temperature and split, side by side, per method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.answers import decimal
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import fade, panels, place
from analysis.selection.levels import SPLIT, THIRDS, Leveled, factors_of, leveled
from analysis.selection.sanity import checks
from analysis.selection.selection import cells, split_selected_on
from analysis.selection.split_gains import BASE, by_base, split_weights
from analysis.statistics.additive import Additive
from analysis.statistics.intervals import Mean
from cl_core.metrics import FORMULAS

TITLE = "What buffer, weight, temperature and split are worth"
SPARE = 5  # trials of a label beyond the free numbers of its model
CHANGES = {
    "buffer": "a large buffer instead of a small one",
    "weight": "a high distillation weight instead of a low one",
    "temperature": "a high temperature instead of a low one",
}
SAID = {"buffer": "buffer", "weight": "distillation weight", "temperature": "temperature"}
STEPS = (("low", "medium"), ("medium", "high"), ("low", "high"))
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


@dataclass(frozen=True)
class Worth:
    """A label with its model."""

    of: Leveled
    model: Additive

    def gain(self, factor: str, low: str, high: str) -> Mean | None:
        """Return the gain from one level to another; None where it is not known."""
        return self.model.contrast(factor, {low: -1.0, high: 1.0}) if factor in self.of.factors else None

    def knows(self, weights: Mapping[str, Mapping[str, float]]) -> bool:
        """Tell whether the gain of a step of a factor is known, or one of the splits' gains `weights`."""
        steps = (self.gain(factor, *step) for factor in self.of.factors for step in STEPS)
        splits = (self.model.contrast(SPLIT, weight) for weight in weights.values())
        return any(gain is not None for gain in (*steps, *splits))

    def steps(self, factor: str) -> list[tuple[str, str]]:
        """Return the steps to show of a factor: from low to high at once where no trial lies between."""
        whole = self.gain(factor, *STEPS[0]) is None and self.gain(factor, *STEPS[1]) is None
        return [STEPS[2]] if whole else [*STEPS[:2]]


@VIEWS.register("worth")
def worth(results: Results) -> Section:
    """Last accuracy gained by buffer, distillation weight, temperature and split, per method."""
    found = [_fitted(one) for one in leveled(results)]
    found = [one for one in found if one.model.freedom >= SPARE]
    used = {name for one in found for name in one.of.trials[SPLIT]}
    scenarios = [name for name in results.scenarios if name in used]
    weights = split_weights(results, scenarios)
    found = [one for one in found if one.knows(weights)]
    if not found:
        text = "No label has enough trials with several values of its buffer, weight or temperature."
        return Section(TITLE, text, optional=True)
    text = f"{_explained(results)}{_warning(results, scenarios)}"
    formulas = [
        "last accuracy of a trial = a mean + a step for its split + a step for its level of each factor, by "
        "least squares; a gain is the difference of two steps",
        "±, 95 %: the wider of t · s · √(Σ w²) and 1.96 · √(Σ w² e²); s: spread of the trials around the "
        "model, w: weight of a trial in the gain, e²: variance of its counts",
        f"last accuracy: {FORMULAS['last_accuracy']}",
    ]
    n = f"n = {sum(len(one.of.trials) for one in found)} completed trials of {plural(len(found), 'label')}"
    table = _spread([_row(one, weights) for one in found])
    figure = _figure(results, found, scenarios)
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        figure,
        [*_buffers(found), _levels(found)],
        split=split_selected_on(results),
        question="What are buffer, distillation weight, temperature and split worth?",
        answer=_sentence(found, weights),
    )


def _fitted(one: Leveled) -> Worth:
    return Worth(one, Additive.fit(factors_of(one), list(one.trials["value"]), list(one.trials["variance"])))


def _sentence(found: Sequence[Worth], weights: Mapping[str, Mapping[str, float]]) -> str:
    """The sentence on what each factor is worth over the labels, the largest first."""
    gains = {said: [one.gain(name, "low", "high") for one in found] for name, said in CHANGES.items()}
    for said, weight in weights.items():
        name = "a base task instead of none" if said == BASE else "large increments instead of small ones"
        gains[name] = [one.model.contrast(SPLIT, weight) for one in found]
    parts = {}
    for name, given in gains.items():
        known = [gain for gain in given if gain is not None and gain.value is not None]
        if known:
            mean = float(np.mean([gain.value for gain in known]))
            firm = sum(gain.half is not None and abs(gain.value or 0.0) > gain.half for gain in known)
            clear = f"clear for {firm} of {plural(len(known), 'label')}"
            parts[f"{name} {decimal(mean, '+')} ({clear})"] = abs(mean)
    listed = "; ".join(sorted(parts, key=lambda part: -parts[part]))
    return f"Gain in last accuracy, mean over labels: {listed}. Clear: larger than its 95 % interval."


def _explained(results: Results) -> str:
    once = (
        " There is one class order, so the intervals do not hold for others." if _one_order(results) else ""
    )
    return (
        "Low, medium and high are thirds of the searched range. All values vary from trial to trial, so each "
        "gain is estimated over all trials of a label, at the same values of the rest. The gains add up in "
        "this model: it does not see that one value matters more beside another. Last accuracy is over all "
        f"classes, so it compares across splits; averages over tasks do not.{once}"
    )


def _one_order(results: Results) -> bool:
    return all(cell.runs["class_order"].nunique() < 2 for cell in cells(results))


def _warning(results: Results, scenarios: Sequence[str]) -> str:
    """The paragraph on splits where the references do not behave; empty where they do."""
    bad = []
    for row in checks(results):
        failed = [f"{name}: {row[name]}" for name in ("finetune", "joint") if row[name] != "OK"]
        if failed and row["scenario"].split(":")[0] in scenarios:
            bad.append(f"{row['scenario']} ({', '.join(failed)})")
    if not bad:
        return ""
    return (
        "\n\nWarning: a split counts only if fine-tuning forgets and joint training learns. That is not "
        f"shown for {', '.join(bad)}."
    )


def _unit(found: Sequence[Worth]) -> tuple[float, str]:
    """An amount of bytes of the size of the largest buffer, a power of ten, and its name."""
    most = max(1.0, *(float(one.of.trials["kept_bytes"].max()) for one in found))
    amount = 10.0 ** math.floor(math.log10(most))
    unit, name = next(unit for unit in UNITS if amount >= unit[0])
    return amount, f"{amount / unit:g} {name}"


def _row(one: Worth, weights: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], Any]:
    """A label's gains in last accuracy."""
    row: dict[tuple[str, str], Any] = {("", "label"): one.of.label}
    for factor, said in SAID.items():
        shown = one.steps(factor)
        for low, high in STEPS:
            gain = one.gain(factor, low, high) if (low, high) in shown else None
            row |= _gain(said, f"{low} → {high}", gain)
    for said, weight in weights.items():
        row |= _gain("split", said, one.model.contrast(SPLIT, weight))
    return row


def _gain(group: str, column: str, gain: Mean | None) -> dict[tuple[str, str], Any]:
    return {(group, column): gain and gain.value, (group, f"{column} ±"): gain and gain.half}


def _buffers(found: Sequence[Worth]) -> list[Table]:
    """The table of what a larger buffer gains per further byte and exemplar; none without a buffer."""
    amount, said = _unit(found)
    rows = []
    for one in (one for one in found if "buffer" in one.of.factors):
        trials = {level: one.of.trials[one.of.trials["buffer"] == level] for level in THIRDS}
        for low, high in one.steps("buffer"):
            gain = one.gain("buffer", low, high)
            if gain is None or gain.value is None:
                continue
            size, kept = (
                float(trials[high][column].mean() - trials[low][column].mean())
                for column in ("buffer: value", "kept_bytes")
            )
            row: dict[str, Any] = {"label": one.of.label, "step": f"{low} → {high}"}
            row |= {
                "further exemplars": size,
                "further kept bytes": kept,
                "gain": gain.value,
                "gain ±": gain.half,
            }
            for name, over in ((f"gain per {said}", kept / amount), ("gain per exemplar", size)):
                row[name] = gain.value / over if over > 0 else None
                row[f"{name} ±"] = gain.half / over if over > 0 and gain.half is not None else None
            rows.append(row)
    text = (
        "Exemplars are counted as the buffer is searched, a class or in all; the steps join the means of the "
        "values tried."
    )
    return (
        [Table("A larger buffer, per byte and exemplar", pd.DataFrame(rows), text, group="label")]
        if rows
        else []
    )


def _spread(rows: Sequence[Mapping[tuple[str, str], Any]]) -> pd.DataFrame:
    """A table with two header rows; columns that no label has are left out."""
    frame = pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))
    frame = frame.astype(dict.fromkeys(frame.columns[1:], float))
    return frame.loc[:, [column for column in frame.columns if frame[column].notna().any()]]


def _levels(found: Sequence[Worth]) -> Table:
    """The table of every level: values tried, trials, bytes kept and last accuracy."""
    rows = []
    for one in found:
        for factor in one.of.factors:
            for level in THIRDS:
                mine = one.of.trials[one.of.trials[factor] == level]
                if mine.empty:
                    continue
                values = mine[f"{factor}: value"].astype(float)
                mean = one.model.level(factor, level)
                row: dict[str, Any] = {"label": one.of.label, "factor": SAID[factor], "level": level}
                row |= {"values tried": f"{values.min():.3g} to {values.max():.3g}", "trials": len(mine)}
                row |= {"kept bytes": mine["kept_bytes"].mean(), "last accuracy": mean and mean.value}
                rows.append(row | {"last accuracy ±": mean and mean.half})
    text = "Last accuracy is at the same values of the rest, over all splits of the label."
    return Table("Levels", pd.DataFrame(rows), text, group="label", folded=True)


def _figure(results: Results, found: Sequence[Worth], scenarios: Sequence[str]) -> go.Figure:
    """Last accuracy at each level and split; a panel a factor, a line a label."""
    shown = {name: said for name, said in SAID.items() if any(name in one.of.factors for one in found)}
    groups = by_base(results, scenarios)
    places: dict[str, list[list[str]]] = {**{name: [list(THIRDS)] for name in shown}, SPLIT: groups}
    if len(scenarios) < 2:
        del places[SPLIT]
    figure = panels([shown.get(name, name) for name in places], 4, 300, legend=True, shared_y=True)
    colour, listed = colours(results), set()
    for index, (factor, parts) in enumerate(places.items()):
        ticks = [level for part in parts for level in part]
        for number, one in enumerate(one for one in found if factor in (*one.of.factors, SPLIT)):
            shift = 0.06 * (number - (len(found) - 1) / 2)  # so that intervals stand side by side
            label = one.of.label
            for part in parts:  # a line joins no split with a base task to one without
                means = {level: one.model.level(factor, level) for level in part}
                known = {level: mean for level, mean in means.items() if mean is not None}
                line = go.Scatter(
                    x=[ticks.index(level) + shift for level in known],
                    y=[mean.value for mean in known.values()],
                    error_y={
                        "array": [mean.half or 0.0 for mean in known.values()],
                        "color": fade(colour[label], 0.45),
                        "thickness": 1,
                        "width": 0,
                    },
                    mode="lines+markers",
                    name=label,
                    legendgroup=label,
                    showlegend=label not in listed,
                    line={"color": colour[label], "width": 2},
                    text=list(known),
                    hovertemplate=f"{label}, %{{text}}: %{{y:.3f}}<extra></extra>",
                )
                figure.add_trace(line, **place(index, figure))
                listed.add(label)
        figure.update_xaxes(tickvals=list(range(len(ticks))), ticktext=ticks, **place(index, figure))
    figure.update_yaxes(title_text="last accuracy", row=1, col=1)
    return figure
