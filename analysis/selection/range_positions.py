"""The place of a cell's best values in the ranges they were searched in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.lake.results import Results
from analysis.lake.searched_space import Parameter, acting, ends
from analysis.selection.selection import Cell
from analysis.selection.trials import ranked
from cl_core.hparams import Choice

EDGE = 0.05  # of the range, at each end
BEST_TRIALS = 3  # trials that are looked at together


@dataclass(frozen=True)
class AtPosition:
    """One numeric parameter in the best trials of a cell, the selected one first."""

    cell: Cell
    parameter: Parameter
    values: tuple[float, ...]
    positions: tuple[float, ...]
    tried: int  # completed trials in which it acted

    @property
    def edge(self) -> str:
        """The end at which the selected value lies: lower, upper, or empty."""
        first = self.positions[0]
        if isinstance(self.parameter.domain, Choice):
            return "lower" if first == 0 else "upper" if first == 1 else ""
        return "lower" if first <= EDGE else "upper" if first >= 1 - EDGE else ""

    @property
    def all_there(self) -> bool:
        """Tell whether the best `BEST_TRIALS` all lie at that end."""
        near = [p <= EDGE if self.edge == "lower" else p >= 1 - EDGE for p in self.positions]
        return bool(self.edge) and len(near) == BEST_TRIALS and all(near)

    @property
    def beyond(self) -> float | None:
        """The method's own end of the range on that side; None where the study's range has it."""
        own, whole = self.parameter.ends, self.parameter.whole and ends(self.parameter.whole)
        if not own or not whole or not self.edge:
            return None
        if self.edge == "lower":
            return whole[0] if whole[0] < own[0] else None
        return whole[1] if whole[1] > own[1] else None


def positions(results: Results, cell: Cell, space: Sequence[Parameter]) -> list[AtPosition]:
    """The selected numbers of a cell with those of its next best trials; empty for a single trial."""
    best = ranked(results, cell)
    if len(best) < 2 or cell.selected_trial not in set(best["trial"]):  # a single trial is no selection
        return []
    first = best["trial"] == cell.selected_trial
    best = pd.concat([best[first], best[~first]])
    mask = acting(tuple(space), best)
    out = []
    for p in space:
        if p.ends is None or p.single or p.column not in best or _few(p):
            continue
        here = best.loc[mask[p.name], ["trial", p.column]]
        values = [p.value(value) for value in here[p.column]]
        numbers = [float(v) for v in values if v is not None and not isinstance(v, str)]
        if not len(here) or here["trial"].iloc[0] != best["trial"].iloc[0] or len(numbers) < len(here):
            continue  # the selected trial took another branch
        top = tuple(numbers[:BEST_TRIALS])
        at = tuple(p.position(number) or 0.0 for number in top)
        out.append(AtPosition(cell, p, top, at, len(here)))
    return out


def _few(p: Parameter) -> bool:
    """Tell whether there are two numbers at most: both are ends."""
    return isinstance(p.domain, Choice) and len(p.domain.options) < 3
