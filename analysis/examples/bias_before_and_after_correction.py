"""Bias for new classes, before and after the correction of a method.

    python -m analysis.examples.bias_before_and_after_correction runs/quickstart

Methods such as BiC and iCaRL answer by another rule than their plain head. Both rules answered the same rows,
so they compare within a run. The recency ratio is the share of answers that name a class of the newest task,
over that task's share of the rows: 1 is unbiased.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from analysis import Results, open_results


def bias_before_and_after_correction(results: Results, split: str = "val") -> pd.DataFrame:
    """Return recency ratio and last accuracy of the head and of a method's own rule, mean over runs."""
    runs = results.table("runs").where("status = 'completed'").select("run", "scenario", "label").pandas()
    metrics = results.table("run_metrics").where(f"split = '{split}'").pandas()
    metrics = metrics[["run", "classifier", "primary", "recency_ratio", "last_accuracy"]]

    before = metrics[(metrics["classifier"] == "head") & ~metrics["primary"]]
    after = metrics[metrics["primary"]]
    both = before.merge(after, on="run", suffixes=(" before", " after")).merge(runs, on="run")
    both = both.rename(columns={"classifier after": "rule"})
    values = [f"{name} {when}" for name in ("recency_ratio", "last_accuracy") for when in ("before", "after")]
    return both.groupby(["scenario", "label", "rule"])[values].mean()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"name a run folder: python -m analysis.examples.{Path(__file__).stem} runs/quickstart")
    found = bias_before_and_after_correction(open_results(sys.argv[1]))
    print("No label answers by another rule than its head." if found.empty else found.round(3).to_string())
