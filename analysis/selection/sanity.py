"""The check that a study counts as run: does fine-tuning forget, does joint training learn?"""

from __future__ import annotations

import numpy as np

from analysis.lake.results import Results
from analysis.selection.reference import other_recipe
from analysis.selection.selection import Cell, cells, split_of
from cl_core.metrics import accuracy_matrix, step_accuracy


def checks(results: Results) -> list[dict[str, str]]:
    """Per scenario, and per recipe where several labels are fine-tuning or joint training.

    Does fine-tuning forget, does joint training learn? A study counts as run only if both hold.
    """
    chosen = cells(results)
    split = split_of(results, [cell for cell in chosen if len(cell.best)])
    out = []
    searched = results.study.seeks
    for scenario in results.scenarios:
        if scenario in searched:  # of class orders: nothing is compared there
            continue
        mine = [cell for cell in chosen if cell.scenario == scenario]
        pairs = _pairs(results, mine)
        for tuned, joint in pairs:
            row = _row(results, tuned, joint, split, {cell.method for cell in mine})
            labels = [cell.label for cell in (tuned, joint) if cell is not None]
            name = f"{scenario}: {', '.join(labels)}" if len(pairs) > 1 else scenario
            out.append({"scenario": name, **row})
    return out


def _pairs(results: Results, mine: list[Cell]) -> list[tuple[Cell | None, Cell | None]]:
    """Fine-tuning and joint training of the same recipe; one alone where the other is missing."""
    tuned, joint = ([cell for cell in mine if cell.method == name] for name in ("finetune", "joint"))
    out: list[tuple[Cell | None, Cell | None]] = []
    for low in tuned:
        out.append((low, next((high for high in joint if not other_recipe(results, low, high)), None)))
    taken = [high.name for _, high in out if high is not None]
    out += [(None, high) for high in joint if high.name not in taken]
    return out or [(None, None)]


def _row(
    results: Results, tuned: Cell | None, joint: Cell | None, split: str, known: set[str]
) -> dict[str, str]:
    row = {"finetune text": "", "joint text": ""}
    for name, cell in (("finetune", tuned), ("joint", joint)):
        lacking = "none of this recipe" if name in known else "not in the study"
        row[name] = lacking if cell is None else "no completed run"
    low = None if tuned is None else _ends(results, tuned, split)
    high = None if joint is None else _ends(results, joint, split)
    if low is not None:
        row["finetune"] = "OK" if low["end"] < low["first"] / 2 else "NOT OK"
        row["finetune text"] = f"first task's classes {low['first']:.3f} → {low['end']:.3f}"
    if high is not None:
        floor = max(2 * high["chance"], low["last"] if low else 0.0)
        row["joint"] = "OK" if high["last"] > min(floor, 0.99) else "NOT OK"
        row["joint text"] = f"last accuracy {high['last']:.3f}, chance {high['chance']:.3f}"
    return row


def _ends(results: Results, cell: Cell, split: str) -> dict[str, float] | None:
    """Means over the runs of a reference cell.

    First-task classes at first and at the end, last accuracy, chance.
    """
    rows = []
    for run in cell.best["run"]:
        counts = results.confusions(run, split)
        if counts:
            matrix = accuracy_matrix(counts, results.sizes(run))
            rows.append((matrix[0, 0], matrix[-1, 0], step_accuracy(counts)[-1], 1 / len(counts[-1])))
    if not rows:
        return None
    return dict(zip(("first", "end", "last", "chance"), map(float, np.mean(rows, axis=0)), strict=True))
