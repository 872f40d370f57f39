"""The cost of the search beyond training: the time between runs, one at a time, start and end left out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from search import run_study

STUDY = {
    "study": "overhead",
    "data": "digits",
    "scenarios": ["B0-5tasks"],
    "methods": ["lwf", "replay"],
    "recipe": {"epochs": 1, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
    "search": {"trials": 10},
    "resources": {"concurrent": 1},
}


def measure() -> dict[str, float]:
    """Seconds a trial beyond training (evaluation, tables, boundaries, Tune and Optuna), and of the start."""
    with tempfile.TemporaryDirectory() as folder:
        started, clock = time.time(), time.perf_counter()
        summary = run_study(STUDY, out=Path(folder) / "run")
        wall = time.perf_counter() - clock
        trials, checkpoints = summary.results.runs, summary.results.tasks
    span = trials["ended"].max() - trials["started"].min()
    training = checkpoints.loc[
        ~checkpoints["shared"], "seconds"
    ].sum()  # the shared first task was trained before
    return {
        "overhead_seconds_per_trial": round((span - training) / len(trials), 4),
        "training_seconds_per_trial": round(training / len(trials), 4),
        "trials": len(trials),
        "start_seconds": round(trials["started"].min() - started, 2),
        "whole_seconds": round(wall, 2),
    }
