"""The variance of the objective in its parts: trial, class order, and seed.

Trials that all ran under the same class orders and seeds make a crossed design. Its components follow from
the mean squares (S. R. Searle, G. Casella, C. E. McCulloch, "Variance Components", 1992, chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.bars import add_part, stack
from analysis.report.identity import PALETTE
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.selection.trials import span

TITLE = "Variance by trial, class order and seed"
_COLOURS = {
    "trial": PALETTE["blue"],
    "class order": PALETTE["orange"],
    "trial × order": PALETTE["slate"],
    "seed": PALETTE["sand"],
}
_ENOUGH = 5  # class orders for a firm estimate of their variance
_REST = "trial × order, and seed"


@dataclass(frozen=True)
class Components:
    """Variances by part, of I trials x J class orders x K seeds."""

    parts: dict[str, float]
    trials: int
    orders: int
    seeds: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Components:
        """From values [I, J, K], I and J at least 2. A negative estimate counts as 0.

        With one seed, what a trial and an order do together is not told apart from the seed.
        """
        i, j, k = values.shape
        mean = values.mean()
        by_trial, by_order, by_both = values.mean((1, 2)), values.mean((0, 2)), values.mean(2)
        apart = by_both - by_trial[:, None] - by_order[None] + mean
        both = k * float((apart**2).sum()) / ((i - 1) * (j - 1))
        trial = j * k * float(((by_trial - mean) ** 2).sum()) / (i - 1)
        order = i * k * float(((by_order - mean) ** 2).sum()) / (j - 1)
        parts = {"trial": (trial - both) / (j * k), "class order": (order - both) / (i * k)}
        if k > 1:
            seed = float(((values - by_both[..., None]) ** 2).sum()) / (i * j * (k - 1))
            parts |= {"trial × order": (both - seed) / k, "seed": seed}
        else:
            parts[_REST] = both
        return cls({name: max(0.0, value) for name, value in parts.items()}, i, j, k)

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())


@VIEWS.register("variance_parts")
def variance_parts(results: Results) -> Section:
    """Variance of the objective due to trial, class order and seed, in cells whose runs are crossed."""
    known = [(cell, _components(results, cell)) for cell in cells(results)]
    found = [(cell, one) for cell, one in known if one is not None and one.total]
    if not found:
        text = "No cell has two trials that ran under the same class orders, two of them or more."
        return Section(TITLE, text, optional=True)
    name = results.study.objective[0].replace("_", " ")
    table = pd.DataFrame([_row(cell, one) for cell, one in found])
    table = table.drop(columns=[c for c in table.columns if table[c].isna().all()])
    text = (
        f"Of {name}, on {rows_selected_on(results)}. The trial's part is what tuning can gain, the class "
        "order's what a single order would add by luck. Confirming runs are of few good trials alone, so "
        "their trials differ less than those of a search."
    )
    if min(one.orders for _, one in found) < _ENOUGH:
        text += f" With fewer than {_ENOUGH} class orders, their part is a rough estimate."
    formulas = [
        "components of a crossed design from its mean squares M: seed M_E; trial × order (M_{TO} − M_E) / K; "
        "trial (M_T − M_{TO}) / (J K); class order (M_O − M_{TO}) / (I K), for I trials, J orders, K seeds; "
        "a negative one is 0",
        "sd: the root of a component; share: of their sum",
    ]
    seeds = span(one.seeds for _, one in found)
    return Section(
        TITLE,
        text,
        formulas,
        f"n = {span(one.trials for _, one in found)} trials × {span(one.orders for _, one in found)} class "
        f"orders × {seeds} seed{'' if seeds == '1' else 's'} a cell",
        table,
        _figure(found),
        optional=True,
        split=split_selected_on(results),
        question="How much of the variance is the trial's?",
        answer=_answer(found),
    )


def _components(results: Results, cell: Cell) -> Components | None:
    """Of the larger crossed block: that of the search, or of the confirmation."""
    blocks = [_block(cell.confirming)]
    if results.study.protocol.turns == 1:  # else every trial has an order of its own
        blocks.append(_block(cell.runs))
    known = [block for block in blocks if block is not None]
    return Components.of(max(known, key=lambda block: block.size)) if known else None


def _block(runs: pd.DataFrame) -> NDArray[np.float64] | None:
    """The objective [trials, orders, seeds] of trials that have every run; None for fewer than two each."""
    done = runs[(runs["status"] == "completed") & runs["objective"].notna()]
    done = done.drop_duplicates(["trial", "class_order", "seed"])
    if done.empty:
        return None
    orders = done.groupby("class_order")["seed"].nunique()
    seeds = int(orders.min())
    if len(orders) < 2:
        return None
    done = done.assign(seed=done.groupby(["trial", "class_order"])["seed"].rank(method="first").astype(int))
    wide = done[done["seed"] <= seeds].pivot(
        index="trial", columns=["class_order", "seed"], values="objective"
    )
    wide = wide.sort_index(axis=1).dropna()
    if len(wide) < 2:
        return None
    return wide.to_numpy(dtype=np.float64).reshape(len(wide), len(orders), seeds)


def _row(cell: Cell, one: Components) -> dict[str, object]:
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label}
    for part in (*_COLOURS, _REST):
        value = one.parts.get(part)
        row[f"sd of {part}"] = None if value is None else float(np.sqrt(value))
        row[f"share of {part}"] = None if value is None else value / one.total
    return row | {"trials": one.trials, "class orders": one.orders, "seeds": one.seeds}


def _answer(found: list[tuple[Cell, Components]]) -> str:
    shares = {
        part: float(np.mean([one.parts[part] / one.total for _, one in found if part in one.parts]))
        for part in ("trial", "class order")
    }
    return (
        f"The trial makes {shares['trial']:.0%} of the variance and the class order "
        f"{shares['class order']:.0%}, mean over {plural(len(found), 'cell')}."
    )


def _figure(found: list[tuple[Cell, Components]]) -> go.Figure:
    names = list(dict.fromkeys(cell.scenario for cell, _ in found))
    tall = max(sum(cell.scenario == name for cell, _ in found) for name in names)
    figure = panels(names, columns=2, height=60 + 24 * tall, legend=True)
    for index, name in enumerate(names):
        here = [(cell, one) for cell, one in reversed(found) if cell.scenario == name]
        for part, colour in (*_COLOURS.items(), (_REST, PALETTE["slate"])):
            shown = [(cell, one) for cell, one in here if part in one.parts]
            if not shown:
                continue
            add_part(
                figure,
                index,
                name,
                part,
                colour,
                [cell.label for cell, _ in shown],
                [one.parts[part] / one.total for _, one in shown],
                "%{x:.0%}",
            )
    stack(figure)
    figure.update_xaxes(title_text="share of the variance", range=[0, 1.01], tickformat=".0%")
    return figure
