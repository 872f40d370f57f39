"""A lake of runs whose counts a test writes down, so that its figures can be computed by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis.lake.open import open_results
from analysis.lake.results import Results
from analysis.lake.run_folder import STUDY
from cl_core.metrics import summary
from cl_core.records import TABLES, ClassRow, ConfusionRow, PhaseRow, RunRow, TaskRow, as_dict
from tests.analysis.planted_tables import merged, place

NAMES = ("cat", "dog", "car", "ship", "frog", "deer")


@dataclass(frozen=True)
class Hand:
    """One run: `counts` are the matrices [seen, seen] after each task, of `sizes` classes a task."""

    label: str
    counts: Sequence[Sequence[Sequence[int]]]
    sizes: Sequence[int] = (1, 1)
    method: str = ""
    trial: int = 0
    order: str = "natural"
    seed: int = 0
    scenario: str = "B0-2tasks"
    status: str = "completed"
    error: str | None = None
    seconds: Sequence[float] = ()  # of each task; 1 where left out
    shared: bool = False  # its first task came from another run
    hp: Mapping[str, Any] = field(default_factory=dict)
    losses: Sequence[tuple[int, str, int, str, float]] = ()  # task, phase, epoch, term, value
    scores: Sequence[tuple[float, float, float]] = ()  # a class: true score, other score, bias of the head
    purpose: str = "search"

    @property
    def run(self) -> str:
        """The name of the run."""
        return f"{self.label}@{self.scenario}/{self.trial}/{self.purpose}/{self.order}/s{self.seed}"


def lake(folder: Path, runs: Sequence[Hand], **search: Any) -> Results:
    """Write the runs, and open them."""
    study = {
        "study": "hand",
        "data": {"name": "digits"},
        "scenarios": list(dict.fromkeys(run.scenario for run in runs)),
        "methods": {run.label: {"method": run.method or run.label} for run in runs},
        "search": {"objective": {"average_incremental_accuracy": "max"}, "start_from": ["paper"], **search},
        "resolved": {"identity": "hand"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    for run in runs:
        for table, found in _rows(run).items():
            rows[table] += found
    hp = {f"hp.{name}": type(value) for run in runs for name, value in run.hp.items()}
    rows = {
        table: [{**dict.fromkeys(hp), **row} if table in ("runs", "tasks") else row for row in found]
        for table, found in rows.items()
    }
    merged(folder, rows, {"runs": hp, "tasks": hp})
    return open_results(folder)


def _rows(run: Hand) -> dict[str, list[dict[str, Any]]]:
    of = {
        "cell": f"{run.label}@{run.scenario}",
        "label": run.label,
        "method": run.method or run.label,
        "run": run.run,
    }
    hp = {f"hp.{name}": value for name, value in run.hp.items()}
    home = np.repeat(np.arange(len(run.sizes)), run.sizes)
    tasks, classes, confusion = [], [], []
    matrices = [np.array(matrix, dtype=np.int64) for matrix in run.counts]
    seconds = [*run.seconds, *[1.0] * (len(matrices) - len(run.seconds))]
    for task, matrix in enumerate(matrices):
        row = TaskRow(
            **of,
            task=task,
            network=f"{run.run}{task}",
            classes=run.sizes[task],
            images=10,
            exemplars=0,
            exemplar_bytes=0,
            kept_bytes=0,
            numerics="",
            seconds=seconds[task],
            shared=run.shared and task == 0,
        )
        tasks.append({**as_dict(row), **hp})
        at = {**of, "split": "val", "after_task": task, "classifier": "head", "primary": True}
        for c in range(len(matrix)):
            true, other, bias = run.scores[c] if run.scores else (None, None, None)
            row = ClassRow(
                **at,
                class_=c,
                class_name=NAMES[c],
                task=int(home[c]),
                n=int(matrix[c].sum()),
                correct=int(matrix[c, c]),
                correct_within_task=int(matrix[c, home[: len(matrix)] == home[c]].sum()),
                predicted=int(matrix[:, c].sum()),
                mean_true_score=true,
                mean_other_score=other,
                bias=bias,
            )
            classes.append(as_dict(row))
        for c, p in zip(*np.nonzero(matrix), strict=True):
            row = ConfusionRow(**at, true_class=int(c), predicted_class=int(p), count=int(matrix[c, p]))
            confusion.append(as_dict(row))
    values = summary(matrices, run.sizes) if matrices else {}
    ended = RunRow(
        **of,
        trial=run.trial,
        trial_digest=hashlib.sha256(f"{run.label}{run.trial}{sorted(hp.items())}".encode()).hexdigest()[:20],
        purpose=run.purpose,
        dataset="digits",
        **place(run.scenario, run.sizes, run.order, run.seed),
        status=run.status,
        split="val",
        tasks=len(run.sizes),
        tasks_done=len(matrices),
        error=run.error,
        objective=values.get("average_incremental_accuracy") if run.purpose == "search" else None,
        seconds=float(sum(seconds)),
        **values,
    )
    phases = [
        as_dict(PhaseRow(**of, task=t, phase=p, epoch=e, term=name, value=v, weight=1.0, learning_rate=0.1))
        for t, p, e, name, v in run.losses
    ]
    return {
        "runs": [{**as_dict(ended), **hp}],
        "tasks": tasks,
        "phases": phases,
        "classes": classes,
        "confusion": confusion,
    }


def class_rows(confusion: pd.DataFrame, home: Sequence[int]) -> pd.DataFrame:
    """Rows and right answers of every class, as the table `classes` has them; `home`: the task of each."""
    right = confusion["true_class"] == confusion["predicted_class"]
    mine = confusion.assign(correct=confusion["count"].where(right, 0))
    keys = ["run", "split", "classifier", "primary", "after_task", "true_class"]
    found = mine.groupby(keys, as_index=False).agg(n=("count", "sum"), correct=("correct", "sum"))
    found = found.rename(columns={"true_class": "class"})
    bits = pd.Series(None, index=found.index, dtype=object)
    return found.assign(task=[home[c] for c in found["class"]], class_name=found["class"], correct_rows=bits)
