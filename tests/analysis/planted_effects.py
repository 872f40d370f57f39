"""A lake with planted accuracies: labels whose differences are known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.lake.run_folder import STUDY
from cl_core.metrics import summary
from cl_core.records import TABLES, ClassRow, ConfusionRow, RunRow, TaskRow, as_dict
from tests.analysis.planted_tables import merged, place


@dataclass(frozen=True)
class Planted:
    """A label whose accuracies are planted: on every class but those of the newest task, and on these.

    `accuracy` maps a scenario to the accuracy, or one number for all; `newest` is left out where it is the
    same. A class order shifts all labels alike, and each label by a little of its own.
    """

    label: str
    method: str
    accuracy: float | Mapping[str, float]
    newest: float | None = None
    hp: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)  # "base.lr": 0.1
    kept: int = 0  # bytes a class
    agreement: float | None = None

    def old(self, scenario: str) -> float:
        """The planted accuracy on older classes."""
        return self.accuracy if isinstance(self.accuracy, float) else self.accuracy[scenario]


SURVEY_SCENARIOS: Mapping[str, tuple[int, ...]] = {"B0-5tasks": (2, 2, 2, 2, 2), "B6-inc1": (6, 1, 1, 1, 1)}
SHIFTS = (0.0, 0.03, -0.02, 0.05, -0.04)  # of class orders: far larger than the effects, and paired away
ROWS = 200_000  # of a class: enough that counting leaves no error beside the planted effects


def plant(
    folder: Path,
    planted: Sequence[Planted],
    scenarios: Mapping[str, tuple[int, ...]] = SURVEY_SCENARIOS,
    orders: int = 5,
    noise: float = 0.001,
    dataset: str = "digits",
    identity: str = "survey",
    device: str | None = "cpu",
    rows: int = ROWS,
    draw: np.random.Generator | None = None,
) -> Path:
    """A run's folder with planted accuracies, gathered; returns it. Metrics follow from the counts.

    With `draw`, right answers are binomial, and class orders and noise normal.
    """
    shifts = SHIFTS if draw is None else list(draw.normal(0, 0.03, orders))
    study = {
        "study": folder.name,
        "data": {"name": dataset},
        "scenarios": list(scenarios),
        "methods": {one.label: {"method": one.method, **one.hp} for one in planted},
        "search": {"objective": {"average_incremental_accuracy": "max"}, "start_from": ["paper"]},
        "resolved": {"identity": identity},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    found: dict[str, list[dict]] = {table: [] for table in TABLES}
    for one in planted:
        for scenario, sizes in scenarios.items():
            for order in range(orders):
                run = _planted(one, scenario, sizes, order, shifts[order], noise, dataset, device, rows, draw)
                for table, more in run.items():
                    found[table] += more
    hp = {f"hp.{k}": type(v) for one in planted for k, v in one.hp.items()}
    recipe = {f"recipe.{k}": type(v) for one in planted for k, v in one.recipe.items()}
    merged(folder, found, {"runs": hp | recipe, "tasks": hp})
    return folder


def _planted(one, scenario, sizes, order, shift, noise, dataset, device, rows, draw):
    cell, class_order = f"{one.label}@{scenario}", "natural" if order == 0 else f"seed:{order}"
    run = f"{cell}/0" + ("" if order == 0 else f"/{class_order}/s0")
    identity = {"cell": cell, "label": one.label, "method": one.method, "run": run}
    own = int(hashlib.sha256(run.encode()).hexdigest()[:8], 16) / 2**32 - 0.5
    shift += 2 * noise * own if draw is None else draw.normal(0, noise)
    hp = {f"hp.{name}": value for name, value in one.hp.items()}
    confusions, confusion, classes, task_rows = [], [], [], []
    home = np.repeat(np.arange(len(sizes)), sizes)
    for task in range(len(sizes)):
        seen = sum(sizes[: task + 1])
        first = seen - sizes[task]
        counts = np.zeros((seen, seen), dtype=np.int64)
        for c in range(seen):
            level = one.newest if one.newest is not None and c >= first else one.old(scenario)
            share = min(1.0, max(0.0, level + shift))
            right = round(rows * share) if draw is None else int(draw.binomial(rows, share))
            counts[c, c] += right
            # Mistakes go to the newest class where new classes are known better, else round about.
            other = seen - 1 if one.newest is not None and c != seen - 1 else (c + 1) % seen
            counts[c, other] += rows - right
        confusions.append(counts)
        at = {**identity, "split": "val", "after_task": task, "classifier": "head", "primary": True}
        for c, p in zip(*np.nonzero(counts), strict=True):
            pair = ConfusionRow(**at, true_class=int(c), predicted_class=int(p), count=int(counts[c, p]))
            confusion.append(as_dict(pair))
        for c in range(seen):
            within = int(counts[c, home[:seen] == home[c]].sum())
            asked = {"n": int(counts[c].sum()), "correct": int(counts[c, c]), "correct_within_task": within}
            row = ClassRow(
                **at,
                **asked,
                class_=c,
                class_name=str(c),
                task=int(home[c]),
                predicted=int(counts[:, c].sum()),
            )
            classes.append(as_dict(row))
        task_row = TaskRow(
            **identity,
            task=task,
            network=hashlib.sha256(f"{run}{task}".encode()).hexdigest()[:20],
            classes=sizes[task],
            images=1000,
            exemplars=0,
            exemplar_bytes=0,
            kept_bytes=one.kept * seen,
            numerics="0" * 20,
            teacher_agreement=None if one.agreement is None or not task else one.agreement + shift / 10,
            seconds=2.0,
        )
        task_rows.append({**as_dict(task_row), **hp})
    values = summary(confusions, sizes)
    ended = RunRow(
        **identity,
        trial_digest=hashlib.sha256(f"{one.method}{sorted(hp.items())}".encode()).hexdigest()[:20],
        trial=0,
        purpose="search",
        dataset=dataset,
        **place(scenario, sizes, class_order),
        status="completed",
        split="val",
        tasks=len(sizes),
        tasks_done=len(sizes),
        objective=values["average_incremental_accuracy"],
        seconds=2.0 * len(sizes),
        device=device,
        **values,
    )
    recipe = {f"recipe.{name}": value for name, value in one.recipe.items()}
    runs = [{**as_dict(ended), **hp, **recipe}]
    return {"runs": runs, "tasks": task_rows, "classes": classes, "confusion": confusion}
