"""A run as the tools take it: values, numbers after each task and of the whole, and what tells it apart.

The tables stay the truth. `digest` changes with the rows, so a run that was trained again is written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.lake.arrow_schema import ADDED
from analysis.lake.results import Results
from cl_core.metrics import OBJECTIVES

Plain = bool | int | float | str

FACTS = ("method", "scenario", "dataset", "net", "trial", "purpose", "class_order", "seed", "split")
AFTER_TASK = (
    "step_accuracy",
    "task_accuracy",
    "old_accuracy",
    "recency_bias",
    "recency_ratio",
    "old_to_new",
    "new_to_old",
)
OF_TASK = ("exemplars", "kept_bytes", "seconds")


@dataclass(frozen=True)
class TrackedRun:
    """One run that has ended."""

    name: str  # as in the tables
    key: str  # of the run folder and the name, 16 digits
    study: str
    cell: str
    label: str
    status: str  # completed | stopped | failed
    started: float | None  # Unix time
    ended: float | None
    values: Mapping[str, Plain]  # hyperparameters, recipe, class order, seed and the like
    tasks: tuple[Mapping[str, float], ...]  # the numbers after each task
    metrics: Mapping[str, float]  # of the whole run

    @property
    def digest(self) -> str:
        """The digest of all that is known of the run."""
        return _digest(json.dumps(asdict(self), sort_keys=True))


def tracked_runs(results: Results) -> list[TrackedRun]:
    """Return every run that has ended, as in the table `runs`."""
    resolved = results.study.plain.get("resolved")
    created = resolved.get("created") if isinstance(resolved, Mapping) else None
    origin = f"{results.study.resolved.identity}/{created or results.folder.resolve().name}"
    study = results.study.name or results.folder.resolve().name
    tasks = _after_tasks(results)
    columns = [*FACTS, *(name for name in results.runs.columns if name.startswith(ADDED))]
    return [
        TrackedRun(
            name=str(row["run"]),
            key=_digest(f"{origin}/{row['run']}"),
            study=study,
            cell=str(row["cell"]),
            label=str(row["label"]),
            status=str(row["status"]),
            started=_numbers(row, ["started"]).get("started"),
            ended=_numbers(row, ["ended"]).get("ended"),
            values={name: value for name in columns if (value := _plain(row[name])) is not None},
            tasks=tuple(tasks.get((str(row["run"]), str(row["split"])), {}).values()),
            metrics=_numbers(row, ["objective", *OBJECTIVES]),
        )
        for row in results.runs.to_dict("records")
    ]


def _after_tasks(results: Results) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Return (run, split) -> task -> its numbers, by the primary classifier."""
    names = ("run", "split", "after_task", *AFTER_TASK)
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    measured = results.table("task_metrics").where('"primary"').select(*names).pandas()
    for row in measured.sort_values("after_task").to_dict("records"):
        mine = found.setdefault((str(row["run"]), str(row["split"])), {})
        mine[int(row["after_task"])] = _numbers(row, AFTER_TASK)
    costs = {
        (str(row["run"]), int(row["task"])): _numbers(row, OF_TASK)
        for row in results.tasks.to_dict("records")
    }
    for (run, _), mine in found.items():
        for task, numbers in mine.items():
            numbers |= costs.get((run, task), {})
    return found


def _numbers(row: Mapping[Any, Any], names: Iterable[str]) -> dict[str, float]:
    """Return the finite numbers of a row by name."""
    known = {name: row[name] for name in names if name in row and not pd.isna(row[name])}
    return {name: float(value) for name, value in known.items() if np.isfinite(float(value))}


def _plain(value: Any) -> Plain | None:
    """Return a value of a table as Python has it; None where it is missing."""
    if pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, bool | int | float | str) else str(plain)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
