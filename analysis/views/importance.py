"""The hyperparameters that decide whether a trial is among the best of its cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.lake.searched_space import Parameter, acting, spaces
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import INK, fade, panels, place, side_by_side
from analysis.selection.selection import Cell, cells, split_selected_on
from analysis.selection.trials import ADAPTIVE, proposed, span, trials
from analysis.statistics.ped_anova import gridded, ped_anova
from analysis.statistics.redraws import highest_by_chance
from cl_core.hparams import Choice, Value

TITLE = "Importance of hyperparameters"
BEST_SHARE = 0.1  # share of the trials that counts as the best ...
FEWEST_BEST = 5  # ... and how many they are at least: a density of fewer is that of single points
FEWEST_TRIALS = 20  # trials of a cell: with fewer, the five best are more than a quarter of all
HALVES = 100  # halves of the trials, and permutations of their values


@dataclass(frozen=True)
class Tried:
    """The trials of a cell by what was drawn: one mapping each, with the parameters that acted."""

    space: tuple[Parameter, ...]
    drawn: list[dict[str, float]]  # a choice's values by their place in it
    score: NDArray[np.float64]  # [n], larger is better; stopped ones lowest
    completed: int

    def __len__(self) -> int:
        return len(self.drawn)


@VIEWS.register("importance")
def importance(results: Results) -> Section:
    """PED-ANOVA of every cell with enough trials, with how firmly each figure stands."""
    every = cells(results)
    known = spaces(results)
    if known is None:
        enough = any(len(trials(results, cell)) >= FEWEST_TRIALS for cell in every)
        return Section(
            TITLE,
            "No importance can be computed: study.yaml does not say what was searched, it was written by an "
            "earlier version. `cl-search run` on this folder writes it anew.",
            optional=not enough,
        )
    tried = {cell.name: _tried(results, cell, known.get(cell.name, ())) for cell in every}
    searched = [cell for cell in every if tried[cell.name].space and len(tried[cell.name])]
    if not searched:
        return Section(TITLE, "No cell has searched a hyperparameter, so none can matter.", optional=True)
    shown = [cell for cell in searched if _enough(tried[cell.name])]
    lacking = [f"{c.name} {len(tried[c.name])}" for c in searched if c not in shown]
    why = (
        f"A cell needs {FEWEST_TRIALS} trials that ended without failing, at least {FEWEST_BEST} of them "
        f"completed: PED-ANOVA compares the best {BEST_SHARE:.0%}, but at least {FEWEST_BEST}, with all, and "
        f"{FEWEST_BEST} of fewer than {FEWEST_TRIALS} are hardly the best ones."
    )
    if not shown:
        return Section(TITLE, f"No cell has been searched enough. {why} There are: {', '.join(lacking)}.")
    frame = pd.DataFrame([row for cell in shown for row in _rows(cell, tried[cell.name])])
    name = results.study.objective[0].replace("_", " ")
    text = (
        f"How much each hyperparameter decides whether a trial is among its cell's best by {name}, "
        "as a share of all of them: PED-ANOVA compares where the best lie with where all lie. “From” and "
        "“to” are what halves of the trials give; “first” is how often the hyperparameter led in "
        "one. “Chance”, the upright mark: values dealt out at random lift any hyperparameter of the cell "
        "above its mark in one of twenty cases, so an importance below it shows nothing."
    )
    if (frame["chance"] > 1).any():
        text += " Where the mark is above 1, the trials are too few to show that it matters."
    if any(tried[cell.name].completed < len(tried[cell.name]) for cell in shown):
        text += " Stopped trials count as tried and as worse than every completed one."
    if results.study.reuses:
        text += " Trials that share the training of another one are left out: they are no draws of their own."
    if (frame["only where"] != "").any():
        text += (
            "\n\nA hyperparameter that acts only in a branch is compared within the trials of that "
            "branch, and counts by how many of the best took it; the choice of the branch is the importance "
            "of the hyperparameter that it hangs on."
        )
    else:
        frame = frame.drop(columns="only where")
    if results.study.sampler in ADAPTIVE:
        text += (
            f"\n\nThe sampler {results.study.sampler} crowds what it takes for the good region; "
            "the comparison is with what was tried, so that what it had settled early looks less important."
        )
    if lacking:
        text += f"\n\n{why} Left out: {', '.join(lacking)}."
    formulas = [
        "importance_i = D(p_{best}, p_{all}) / Σ_j D_j, where D = Σ_x p_{all}(x) · "
        "(p_{best}(x) / p_{all}(x) − 1)² and p are Parzen densities of the values of i (Watanabe et al., "
        "IJCAI 2023, arXiv 2304.10255; branches: arXiv 2601.20800)",
        f"interval: 5 % to 95 % over {HALVES} random halves of the cell's trials, which spread as "
        "much as the whole does (delete-half jackknife; Shao & Wu, Annals of Statistics, 1989)",
        f"chance_i = q_i · Q / Σ_j D_j: q_i the 95 % quantile of D_i under {HALVES} random permutations of "
        "the values and the values as they are, Q that of max_j D_j / q_j (Westfall & Young, 1993): one of "
        "several is high by chance more often than each",
    ]
    counts = [len(tried[cell.name]) for cell in shown]
    n = f"n = {span(counts)} trials a cell"
    figure = _figure(results, shown, frame)
    return Section(
        TITLE,
        text,
        formulas,
        n,
        frame,
        figure,
        split=split_selected_on(results),
        question="Which hyperparameters decide whether a trial is good?",
        answer=_answer(frame),
    )


def _answer(frame: pd.DataFrame) -> str:
    """The sentence on the hyperparameters above chance."""
    firm = frame[frame["importance"] > frame["chance"]]
    names = firm.sort_values("importance", ascending=False)
    listed = [f"{row['hyperparameter']} of {row['label']}" for row in names.head(4).to_dict("records")]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    text = f"More important than chance: {len(firm)} of {plural(len(frame), 'hyperparameter')}"
    return f"{text}: {', '.join(listed)}{more}." if listed else f"{text}."


def _enough(tried: Tried) -> bool:
    return len(tried) >= FEWEST_TRIALS and tried.completed >= max(
        FEWEST_BEST, int(np.ceil(BEST_SHARE * len(tried)))
    )


def _tried(results: Results, cell: Cell, space: Sequence[Parameter]) -> Tried:
    """The trials of a cell that can be compared: those that ended, without failed and reused ones."""
    rows = proposed(trials(results, cell))
    rows = rows[rows["status"] != "failed"].reset_index(drop=True)
    space = tuple(p for p in space if not p.single and p.column in rows)
    mask = acting(space, rows)
    drawn: list[dict[str, float]] = [{} for _ in range(len(rows))]
    whole = np.ones(len(rows), dtype=bool)
    for p in space:
        found = list(rows[p.column])
        for index in np.flatnonzero(mask[p.name].to_numpy()):
            value = p.value(found[index])
            if value is None:  # the domain was another one then
                whole[index] = False
            elif isinstance(p.domain, Choice):
                drawn[index][p.name] = _options(p).index(value)
            else:
                assert not isinstance(value, str)
                drawn[index][p.name] = value
    score = rows["objective"].to_numpy(dtype=np.float64) * (-1 if results.study.objective[1] == "min" else 1)
    completed = (rows["status"] == "completed").to_numpy()
    if completed.any():
        score = np.where(completed, score, score[completed].min() - 1.0)
    kept = np.flatnonzero(whole)
    return Tried(space, [drawn[i] for i in kept], score[kept], int(completed[kept].sum()))


def _rows(cell: Cell, tried: Tried) -> Iterator[dict[str, Any]]:
    """One row a parameter, the most important first."""
    draw = np.random.default_rng(0)  # the same page for the same tables
    n = len(tried)
    halves = [np.where(draw.permutation(n) < n // 2, tried.score, np.nan) for _ in range(HALVES)]
    dealt = [draw.permutation(tried.score) for _ in range(HALVES)]
    found, *more = _measured(tried, np.stack([tried.score, *halves, *dealt]))
    again, chance = [_shares(one) for one in more[:HALVES]], more[HALVES:]
    total = sum(found.values())
    share = _shares(found)
    redrawn = np.array([[one.get(p.name, 0.0) for p in tried.space] for one in chance])
    seen = np.array([found.get(p.name, 0.0) for p in tried.space])
    bounds = dict(zip((p.name for p in tried.space), highest_by_chance(seen, redrawn), strict=True))
    for p in sorted(tried.space, key=lambda p: -share[p.name]):
        values = [one.get(p.name, 0.0) for one in again]
        low, high = np.quantile(values, [0.05, 0.95])
        yield {
            "scenario": cell.scenario,
            "label": cell.label,
            "hyperparameter": p.short,
            "importance": share[p.name],
            "from": float(low),
            "to": float(high),
            "first": float(np.mean([max(one, key=lambda k: one[k]) == p.name for one in again])),
            "chance": float(bounds[p.name] / total) if total else None,
            "only where": p.branch,
            "trials": sum(p.name in drawn for drawn in tried.drawn),
        }


def _shares(found: Mapping[str, float]) -> dict[str, float]:
    total = sum(found.values())
    return {name: value / total if total else 0.0 for name, value in found.items()}


def _measured(tried: Tried, scores: NDArray[np.float64]) -> list[dict[str, float]]:
    """PED-ANOVA for each of the scores [m, n] of the trials, nan for those to leave out.

    Numbers to choose from are neighbours, as in a range: what holds for one says something of the next.
    """
    columns = [
        gridded(p.domain, [drawn.get(p.name) for drawn in tried.drawn], ordered=p.ends is not None)
        for p in tried.space
    ]
    found = ped_anova(columns, scores, max(BEST_SHARE, FEWEST_BEST / len(tried)))
    return [dict(zip((p.name for p in tried.space), row, strict=True)) for row in found.tolist()]


def _options(p: Parameter) -> list[Value]:
    """The values of a choice, numbers by size."""
    assert isinstance(p.domain, Choice)
    return list(p.domain.options) if p.ends is None else sorted(p.domain.options)


def _figure(results: Results, shown: Sequence[Cell], frame: pd.DataFrame) -> go.Figure:
    """A bar a hyperparameter with its interval; a mark where chance ends; a panel a cell."""
    groups = [frame[(frame["label"] == c.label) & (frame["scenario"] == c.scenario)] for c in shown]
    tall = max(len(group) for group in groups)
    figure = panels(
        [cell.name for cell in shown], columns=side_by_side(frame["hyperparameter"]), height=40 + 30 * tall
    )
    colour = colours(results)
    for index, (cell, group) in enumerate(zip(shown, groups, strict=True)):
        group = group[group["importance"].notna()].iloc[::-1]  # plotly draws upwards
        value = group["importance"]
        figure.add_trace(
            go.Bar(
                x=list(value),
                y=list(group["hyperparameter"]),
                orientation="h",
                marker={"color": fade(colour[cell.label], 0.7)},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": list((group["to"] - value).clip(lower=0)),
                    "arrayminus": list((value - group["from"]).clip(lower=0)),
                    "thickness": 1.4,
                    "color": INK,
                },
                hovertemplate="%{y}: %{x:.2f}<extra></extra>",
            ),
            **place(index, figure),
        )
        figure.add_trace(
            go.Scatter(
                x=list(group["chance"]),
                y=list(group["hyperparameter"]),
                mode="markers",
                marker={"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": "#20262e"}},
                hovertemplate="chance: %{x:.2f}<extra></extra>",
            ),
            **place(index, figure),
        )
    figure.update_xaxes(title_text="importance (share); upright line: chance", rangemode="tozero")
    figure.update_yaxes(type="category")
    return figure
