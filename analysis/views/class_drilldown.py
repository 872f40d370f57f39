"""The classes that are learnt worst and best, and the answers that stand in for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import SEQUENTIAL, panels, place, plain
from analysis.selection.selection import Cell, cells, orders_sentence, same_sentence, split_of

TITLE = "Classes"
_WIDEST = 30  # classes of the figure: the hardest and the easiest half of them where there are more
_ENDS = 3  # classes of each end in the table of a cell


@dataclass(frozen=True)
class ClassCounts:
    """The answers to each class of a cell after the last task, summed over its runs, by class name."""

    cell: Cell
    rows: Mapping[str, int]
    answers: Mapping[str, Mapping[str, int]]

    def accuracy(self, name: str) -> float | None:
        """Return the accuracy on a class; None without rows."""
        asked = self.rows.get(name, 0)
        return self.answers[name].get(name, 0) / asked if asked else None

    def mistaken(self, name: str) -> tuple[str, float] | None:
        """Return the most frequent wrong answer to a class, and its share of the rows; None without one."""
        wrong = {answer: n for answer, n in self.answers[name].items() if answer != name and n}
        if not wrong:
            return None
        answer = max(wrong, key=lambda other: (wrong[other], other))
        return answer, wrong[answer] / self.rows[name]


@VIEWS.register("class_drilldown")
def class_drilldown(results: Results) -> Section:
    """Accuracy on every class after the last task, the hardest first, and what it is mistaken for."""
    compared = [cell for cell in cells(results) if len(cell.best)]
    split = split_of(results, compared)
    known = _class_names(results, [str(run) for cell in compared for run in cell.best["run"]])
    found = [one for one in (_counted(results, cell, split, known) for cell in compared) if one.rows]
    if not found:
        return Section(TITLE, "No completed run has evaluated rows with class names.", optional=True)
    parts = {}
    for scenario in dict.fromkeys(one.cell.scenario for one in found):
        here = [one for one in found if one.cell.scenario == scenario]
        names = list(dict.fromkeys(name for one in here for name in one.rows))
        values = [[one.accuracy(name) for name in names] for one in here]
        frame = pd.DataFrame(values, [one.cell.label for one in here], names, dtype=float)
        frame = frame.dropna(axis=1, how="all")  # classes without a row
        parts[scenario] = frame[frame.mean().sort_values(kind="stable").index]
    text = (
        f"{same_sentence(split)} By the primary classifier, after the last task. Under "
        "several class orders a class comes early in one and late in another, so a mean over orders shows "
        "how hard the class is, more than how old it is."
    )
    if any(len(frame.columns) > _WIDEST for frame in parts.values()):
        text += f" The figure shows the {_WIDEST // 2} hardest and the {_WIDEST // 2} easiest classes."
    return Section(
        TITLE,
        text,
        [
            "accuracy on a class: its rows answered rightly / its rows, summed over a cell's runs",
            "mistaken for: the most frequent wrong answer, with its share of the rows of the class",
        ],
        orders_sentence(compared, ""),
        pd.DataFrame([_row(one) for one in found]),
        _figure(parts),
        [_ends(found)],
        split=split,
        question="Which classes are hardest, and what are they mistaken for?",
        answer=_answer(parts),
    )


def _class_names(results: Results, runs: Sequence[str]) -> dict[str, dict[int, str]]:
    """Run -> the name of every class by its number."""
    if not runs:
        return {}
    classes = results.read("classes", runs)[["run", "class", "class_name"]].drop_duplicates(["run", "class"])
    out: dict[str, dict[int, str]] = {}
    for run, number, name in classes.itertuples(index=False):
        out.setdefault(str(run), {})[int(number)] = str(name)
    return out


def _counted(results: Results, cell: Cell, split: str, known: Mapping[str, Mapping[int, str]]) -> ClassCounts:
    rows: dict[str, int] = {}
    answers: dict[str, dict[str, int]] = {}
    for run in cell.best["run"]:
        counts = results.confusions(run, split)
        if not counts or run not in known:
            continue
        last, names = counts[-1], known[run]
        said = [str(names.get(number, number)) for number in range(len(last))]
        for true, name in enumerate(said):
            rows[name] = rows.get(name, 0) + int(last[true].sum())
            mine = answers.setdefault(name, {})
            for answer in np.flatnonzero(last[true]):
                mine[said[answer]] = mine.get(said[answer], 0) + int(last[true, answer])
    return ClassCounts(cell, rows, answers)


def _answer(parts: Mapping[str, pd.DataFrame]) -> str:
    """Name the hardest and the easiest class of every scenario, mean over cells."""
    said = []
    for scenario, frame in parts.items():
        means = frame.mean()
        hard, easy = (f"class {name}" if str(name).isdigit() else name for name in means.index[[0, -1]])
        said.append(
            f"In {scenario}, {hard} is hardest ({means.iloc[0]:.3f}) and {easy} easiest "
            f"({means.iloc[-1]:.3f}), mean over {plural(len(frame), 'cell')}."
        )
    return " ".join(said)


def _row(one: ClassCounts) -> dict[str, object]:
    values = np.array([value for name in one.rows if (value := one.accuracy(name)) is not None])
    return {
        "scenario": one.cell.scenario,
        "label": one.cell.label,
        "classes": len(values),
        "worst class": float(values.min()),
        "lowest tenth": float(np.quantile(values, 0.1)),
        "median": float(np.median(values)),
        "best class": float(values.max()),
        "never answered rightly": int((values == 0).sum()),
    }


def _ends(found: list[ClassCounts]) -> Table:
    """The table of the worst and best classes of each cell."""
    rows = []
    for one in found:
        asked = [name for name in one.rows if one.rows[name]]
        order = sorted(asked, key=lambda name: (one.accuracy(name) or 0.0, name))
        worst, best = order[:_ENDS], [name for name in order[-_ENDS:] if name not in order[:_ENDS]]
        for end, names in (("worst", worst), ("best", best)):
            for name in names:
                mistaken = one.mistaken(name)
                rows.append(
                    {
                        "scenario": one.cell.scenario,
                        "label": one.cell.label,
                        "end": end,
                        "class": name,
                        "accuracy": one.accuracy(name),
                        "mistaken for": mistaken and mistaken[0],
                        "in": mistaken and mistaken[1],
                    }
                )
    return Table("Worst and best classes", pd.DataFrame(rows), group="label", folded=True)


def _figure(parts: Mapping[str, pd.DataFrame]) -> go.Figure:
    tall = max(len(frame) for frame in parts.values())
    figure = panels(list(parts), 1, height=110 + 22 * tall)
    for index, frame in enumerate(parts.values()):
        half = _WIDEST // 2
        many = len(frame.columns) > _WIDEST
        shown = pd.concat([frame.iloc[:, :half], frame.iloc[:, -half:]], axis=1) if many else frame
        heat = go.Heatmap(
            z=shown.to_numpy(),
            x=[plain(name) for name in shown.columns],
            y=[plain(name) for name in shown.index],
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            texttemplate="%{z:.2f}" if len(shown.columns) <= 20 else None,
            textfont={"size": 10.5},
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
            hoverongaps=False,
        )
        figure.add_trace(heat, **place(index, figure))
    bar = {"thickness": 12, "len": 200, "lenmode": "pixels", "y": 1, "yanchor": "top"}
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorscale": SEQUENTIAL, "colorbar": bar})
    figure.update_xaxes(type="category", showgrid=False, tickangle=-40)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    return figure
