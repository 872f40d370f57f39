"""Lakes in memory whose counts are drawn: one trial a cell, or the trials of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.lake.results import Results
from analysis.lake.study import study_record
from tests.analysis.hand_counts import class_rows

ROWS = 143
TASKS = (72, 71)  # rows of the two tasks of a class each


def lake(counts: NDArray[np.int64], seed: int) -> Results:
    """Return results in memory: `counts` [cells, trials, orders] of 143 rows after the last of two tasks.

    Only the best trial of a cell has its confusions.
    """
    best = counts.mean(axis=2).argmax(axis=1)
    draw = np.random.default_rng(seed)
    runs: list[dict[str, Any]] = []
    confusion: list[dict[str, Any]] = []
    for (index, trial, order), number in np.ndenumerate(counts):
        label, cell = f"lwf{index}", f"lwf{index}@B0-2tasks"
        run = {"cell": cell, "label": label, "method": "lwf", "run": f"{cell}/{trial}/seed:{order}/s0"}
        runs.append(
            {
                **run,
                "trial_digest": f"{trial:020d}",
                "trial": trial,
                "purpose": "search",
                "scenario": "B0-2tasks",
                "dataset": "digits",
                "base": 1,
                "increments": "1",
                "tasks": 2,
                "class_order": f"seed:{order}",
                "seed": 0,
                "status": "completed",
                "split": "val",
                "objective": number / ROWS,
                "last_accuracy": number / ROWS,
            }
        )
        if trial != best[index]:
            continue
        first = int(draw.hypergeometric(number, ROWS - number, TASKS[0]))
        known = [(0, 0, 0, TASKS[0])]
        for true, n in enumerate((first, int(number) - first)):
            known += [(1, true, true, n), (1, true, 1 - true, TASKS[true] - n)]
        confusion += [
            {
                **run,
                "split": "val",
                "after_task": task,
                "classifier": "head",
                "primary": True,
                "true_class": true,
                "predicted_class": answer,
                "count": n,
            }
            for task, true, answer, n in known
        ]
    results = Results(Path("simulated"))
    results.__dict__["runs"] = pd.DataFrame(runs)
    results.__dict__["confusion"] = pd.DataFrame(confusion)
    results.__dict__["classes"] = class_rows(results.confusion, [0, 1])
    results.__dict__["study"] = study_record(
        {
            "study": "simulated",
            "data": {"name": "digits", "root": None},
            "scenarios": [{"name": "B0-2tasks"}],
            "methods": {f"lwf{index}": {"method": "lwf"} for index in range(len(counts))},
            "search": {"objective": {"last_accuracy": "max"}, "trials": 4},
            "protocol": {"validation": 0.1},
        }
    )
    return results
