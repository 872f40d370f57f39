"""Buffer size against distillation weight: the larger effect on last accuracy.

    python -m analysis.examples.buffer_size_or_distillation_weight runs/sweep

Last accuracy is fitted by least squares on the logarithms of both, over the completed trials of a label. An
effect is the change of last accuracy per standard deviation of the logarithm. The share says how often, over
1,000 resamples of the trials, the buffer has the larger effect: near 1 the buffer, near 0 the weight.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import Results, open_results

BUFFER, WEIGHT = "hp.exemplars_per_class", "hp.kd_weight"


def buffer_size_or_distillation_weight(
    results: Results, buffer: str = BUFFER, weight: str = WEIGHT
) -> pd.DataFrame:
    """Return both effects for every label and scenario in which both hyperparameters were searched."""
    runs = results.runs
    if not {buffer, weight} <= set(runs.columns):
        return pd.DataFrame()
    done = runs[(runs["status"] == "completed") & (runs["purpose"] == "search")]
    trials = done.groupby(["scenario", "label", "trial"])[[buffer, weight, "last_accuracy"]].mean()
    trials = trials[(trials[buffer] > 0) & (trials[weight] > 0)]

    out = []
    for (scenario, label), mine in trials.groupby(["scenario", "label"]):
        if len(mine) < 8 or mine[buffer].nunique() < 2 or mine[weight].nunique() < 2:
            continue
        x = np.log(mine[[buffer, weight]].to_numpy(float))
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        y = mine["last_accuracy"].to_numpy(float)
        rng = np.random.default_rng(0)
        draws = [_effects(x[rows], y[rows]) for rows in rng.integers(len(y), size=(1000, len(y)))]
        larger = np.mean([abs(b) > abs(w) for b, w in draws])
        of_buffer, of_weight = _effects(x, y)
        out.append((scenario, label, len(mine), of_buffer, of_weight, larger))
    names = ["scenario", "label", "trials", "effect of buffer", "effect of weight", "share: buffer larger"]
    return pd.DataFrame(out, columns=names)


def _effects(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the two slopes of the fit y = a + b x, x [n, 2]."""
    slopes = np.linalg.lstsq(np.column_stack([np.ones(len(y)), x]), y, rcond=None)[0]
    return float(slopes[1]), float(slopes[2])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"name a run folder: python -m analysis.examples.{Path(__file__).stem} runs/quickstart")
    found = buffer_size_or_distillation_weight(open_results(sys.argv[1]))
    print("No label has searched both." if found.empty else found.round(3).to_string(index=False))
