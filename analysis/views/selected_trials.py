"""Selected trials: the confirmed candidates of every cell against the published default, and the choice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.lake.amounts import plural
from analysis.lake.results import Results
from analysis.report.section import VIEWS, Section
from analysis.selection.confirmation import Candidate, Confirmation
from analysis.selection.in_words import searched_values, selection_in_words, with_sign
from analysis.selection.selection import Cell, cells, rows_selected_on, split_selected_on
from analysis.selection.trials import span
from analysis.selection.turns import turns_sentence

TITLE = "Selected trials"


@VIEWS.register("selected_trials")
def selected_trials(results: Results) -> Section:
    """The confirmed candidates of each cell, their difference from the default, and the selected one."""
    found = [(cell, cell.confirmation) for cell in cells(results) if cell.confirmation is not None]
    if not found:
        return Section(TITLE, "No trial was confirmed on fresh class orders.", optional=True)
    lines = [selection_in_words(results, cell) for cell, _ in found]
    objective, direction = results.study.objective
    name = objective.replace("_", " ")
    keep = results.study.protocol.keep_default
    text = (
        "The best trials of each search and the published default were trained again on class orders that "
        f"the search has not used, and measured on {rows_selected_on(results)}. “Measured” is {name} over "
        "these orders. “Gain” is the posterior mean of trial minus default over all runs of the cell, "
        "with its 95 % interval. It lies nearer to zero than the values do, because the best of many values "
        f"is partly luck. {'Above' if direction == 'max' else 'Below'} zero the trial is better. The default "
        f"is kept unless a trial is better with probability {keep:g} or more (protocol.keep_default). It is "
        "also kept where none of its runs on these orders has completed."
    )
    text += turns_sentence(results.study.protocol.turns)
    table = pd.DataFrame([row for cell, known in found for row in _rows(results, cell, known)])
    formulas = [
        "value of a run = mean + f(trial) + effect of its class order + g(class order, trial) + error of its "
        "rows + noise: f and g are Gaussian processes over the searched values (Matérn 5/2), g one for each "
        "class order; the error of the rows is known from which of them each run answered right; amplitudes "
        "are averaged over, weighted by the restricted likelihood",
        "P(better): posterior probability that f(trial) is better than f(default)",
    ]
    n = f"n = {span(known.orders for _, known in found)} fresh class orders"
    return Section(
        TITLE,
        "\n\n".join([*lines, text]),
        formulas,
        n,
        table,
        optional=True,
        split=split_selected_on(results),
        question="Is the selected trial better than the published default?",
        answer=_answer(found, name),
    )


def _answer(found: Sequence[tuple[Cell, Confirmation]], name: str) -> str:
    """The sentence on the cells that left the default, and the largest gain among them."""
    left = [(cell, known) for cell, known in found if not known.kept]
    text = f"{len(left)} of {plural(len(found), 'cell')} selected a trial in place of the published default"
    if not left:
        return f"{text}."
    cell, known = max(left, key=lambda pair: abs(pair[1].selected.difference))
    best = known.selected
    interval = f"{with_sign(best.difference)} [{with_sign(best.low)}, {with_sign(best.high)}]"
    return f"{text}; the largest gain in {name} is that of {cell.name}, {interval}."


def _rows(results: Results, cell: Cell, known: Confirmation) -> list[dict[str, object]]:
    """The default, then the candidates, the most promising first."""
    return [_row(results, cell, known, one) for one in [known.default, *known.candidates]]


def _row(results: Results, cell: Cell, known: Confirmation, one: Candidate) -> dict[str, object]:
    default = one is known.default
    compared = known.compared and not default
    selection = ("kept the default" if known.kept else "selected") if one is known.selected else ""
    return {
        "scenario": cell.scenario,
        "label": cell.label,
        "trial": "default" if default else str(one.trial),
        "values": searched_values(results, cell, one.trial),
        "measured": one.value if one.orders else None,
        "gain": one.difference if compared else None,
        "low": one.low if compared else None,
        "high": one.high if compared else None,
        "P(better)": one.p_better if compared else None,
        "class orders": one.orders,
        "selection": selection,
    }
