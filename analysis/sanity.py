"""Whether a study counts as run: does fine-tuning forget, does joint training learn?"""

from __future__ import annotations

import numpy as np

from analysis.load import Results
from analysis.selection import Cell, cells, scenarios, sought, split_of
from cl_core.metrics import accuracy_matrix, step_accuracy


def checks(results: Results) -> list[dict[str, str]]:
    """Per scenario.

    Does fine-tuning forget, does joint training learn? A study counts as run only if both hold.
    """
    chosen = cells(results)
    split = split_of(results, [cell for cell in chosen if len(cell.best)])
    out = []
    searched = sought(results)
    for scenario in scenarios(results):
        if scenario in searched:  # of class orders: nothing is compared there
            continue
        mine = [cell for cell in chosen if cell.scenario == scenario]
        tuned, joint = _ends(results, mine, "finetune", split), _ends(results, mine, "joint", split)
        row = {"scenario": scenario, "finetune": "not in the study", "joint": "not in the study"}
        row["finetune text"] = row["joint text"] = ""
        if tuned is not None:
            row["finetune"] = "OK" if tuned["end"] < tuned["first"] / 2 else "NOT OK"
            row["finetune text"] = f"first task's classes {tuned['first']:.3f} → {tuned['end']:.3f}"
        elif any(cell.method == "finetune" for cell in mine):
            row["finetune"] = "no completed run"
        if joint is not None:
            floor = max(2 * joint["chance"], tuned["last"] if tuned else 0.0)
            row["joint"] = "OK" if joint["last"] > min(floor, 0.99) else "NOT OK"
            row["joint text"] = f"last accuracy {joint['last']:.3f}, chance {joint['chance']:.3f}"
        elif any(cell.method == "joint" for cell in mine):
            row["joint"] = "no completed run"
        out.append(row)
    return out


def _ends(results: Results, mine: list[Cell], method: str, split: str) -> dict[str, float] | None:
    """Means over the runs of a reference cell.

    First-task classes at first and at the end, last accuracy, chance.
    """
    found = sorted((c for c in mine if c.method == method and len(c.best)), key=lambda c: c.label != method)
    if not found:
        return None
    rows = []
    for trial in found[0].best["trial"]:
        counts = results.confusions(trial, split)
        if counts:
            matrix = accuracy_matrix(counts, results.sizes(trial))
            rows.append((matrix[0, 0], matrix[-1, 0], step_accuracy(counts)[-1], 1 / len(counts[-1])))
    if not rows:
        return None
    return dict(zip(("first", "end", "last", "chance"), map(float, np.mean(rows, axis=0)), strict=True))
