"""Accuracy that classes lose with age.

    python -m analysis.examples.forgetting_by_class_age runs/quickstart

The loss of a task is its accuracy right after it was learnt minus its accuracy after the last task. Its age
is the number of tasks in between. A row is a scenario and label, a column an age; the mean is over completed
runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from analysis import Results, open_results


def forgetting_by_class_age(results: Results, split: str = "val") -> pd.DataFrame:
    """Return the mean loss of accuracy by the age of the classes, in tasks."""
    runs = (
        results.table("runs")
        .where("status = 'completed'")
        .select("run", "scenario", "label", "tasks")
        .pandas()
    )
    own_rule = f"split = '{split}' and \"primary\""
    matrix = results.table("accuracy_matrix").where(own_rule).pandas().merge(runs, on="run")

    key = ["scenario", "label", "run", "task"]
    learnt = matrix[matrix["after_task"] == matrix["task"]].set_index(key)["accuracy"]
    last = matrix[matrix["after_task"] == matrix["tasks"] - 1].set_index(key)
    loss = (learnt - last["accuracy"]).dropna().rename("loss").reset_index()
    loss["age"] = loss.groupby("run")["task"].transform("max") - loss["task"]
    return loss.pivot_table(index=["scenario", "label"], columns="age", values="loss", aggfunc="mean")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"name a run folder: python -m analysis.examples.{Path(__file__).stem} runs/quickstart")
    print(forgetting_by_class_age(open_results(sys.argv[1])).round(3).to_string())
