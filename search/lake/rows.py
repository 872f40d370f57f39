"""Rows of a run: made from its results, its metrics from its own rows of the other tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from cl_core.hparams import to_dict
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.metrics import count_matrices, summary
from cl_core.records import (
    REUSED,
    ClassRow,
    ConfusionRow,
    Identity,
    PhaseRow,
    RunRow,
    TaskFacts,
    TaskRow,
    as_dict,
    trained_by,
)
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training
from spaces.resolved.run_spec import RunSpec

INCREMENTS = "average_incremental_accuracy_without_first"  # what stoppers compare
TASK_TABLES = {"tasks": "task", "phases": "task", "classes": "after_task", "confusion": "after_task"}
"""The tables with rows of every task, and the column that has its number."""


def run_row(
    spec: RunSpec, data: Data, rows: Mapping[str, list[dict[str, Any]]], status: str, error: str | None = None
) -> dict[str, Any]:
    """Return the row of the table `runs` from a run's other rows. It says nothing of the machine."""
    configuration = spec.configuration
    method = METHODS[configuration.method](configuration.hp)
    sizes = configuration.scenario.sizes(data.num_classes)
    confusions = primary_confusions(rows, sizes, spec.measured)
    metrics: dict[str, Any] = dict(summary(confusions, sizes[: len(confusions)])) if confusions else {}
    metrics |= costs(rows["tasks"])
    row = RunRow(
        **_of_spec(spec),
        dataset=data.name,
        base=sizes[0],
        increments=",".join(map(str, sizes[1:])),
        net=configuration.net or data.net,
        status=status,
        tasks=configuration.until or len(sizes),
        tasks_done=len(confusions),
        error=error,
        objective=metrics.get(spec.objectives[0]),
        **metrics,
    )
    recipes = zip(("base", "increment"), configuration.recipes(data, method), strict=True)
    return {
        **as_dict(row),
        **{f"hp.{name}": value for name, value in method.values().items()},
        **{f"recipe.{part}.{n}": v for part, recipe in recipes for n, v in to_dict(recipe).items()},
    }


def unbegun_row(spec: RunSpec, error: str) -> dict[str, Any]:
    """Return the row of a run that failed before it began, from its specification alone."""
    row = RunRow(
        **_of_spec(spec),
        dataset=spec.configuration.data.name,
        base=0,
        increments="",
        net=spec.configuration.net or "",
        status="failed",
        tasks=0,
        tasks_done=0,
        error=error,
    )
    return as_dict(row)


def _of_spec(spec: RunSpec) -> dict[str, Any]:
    configuration = spec.configuration
    return {
        **identity(spec),
        "trial_digest": spec.trial_digest,
        "trial": spec.trial,
        "reuses": trained_by(spec.trial) if spec.trial >= REUSED else None,
        "purpose": spec.purpose,
        "scenario": configuration.scenario.name,
        "class_order": configuration.class_order or configuration.scenario.class_order,
        "seed": configuration.seed,
        "split": spec.measured,
    }


def costs(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the costs of a run so far, from its rows in `tasks`, by the names of `cl_core.metrics.COSTS`."""
    last = max(tasks, key=lambda task: task["task"], default=None)
    return {
        "kept_bytes": last and last["kept_bytes"],
        "parameters": last and last["parameters"],
        "flops": last and last.get("flops"),  # rows of an earlier version have none
        "seconds": sum(task["seconds"] for task in tasks),
    }


def primary_confusions(
    rows: Mapping[str, list[dict[str, Any]]], sizes: tuple[int, ...], split: str
) -> list[np.ndarray]:
    """Return the primary classifier's counts [seen, seen] after each task that has a row in `tasks`."""
    seen = np.cumsum(sizes)[: len(rows["tasks"])]
    mine = [
        (row["after_task"], row["true_class"], row["predicted_class"], row["count"])
        for row in rows["confusion"]
        if row["primary"] and row["split"] == split and row["after_task"] < len(seen)
    ]
    after, true, predicted, count = np.array(mine, dtype=np.int64).reshape(-1, 4).T
    return count_matrices(after, true, predicted, count, seen)


def identity(spec: RunSpec) -> dict[str, Any]:
    """Return the four columns that every table begins with."""
    return as_dict(Identity(spec.cell, spec.label, spec.configuration.method, spec.run))


def task_rows(own: dict[str, Any], training: Training, result: TaskResult) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one task, by table."""
    facts = {field.name: getattr(result, field.name) for field in fields(TaskFacts)}
    task = TaskRow(**own, task=result.task, **facts)
    force = {
        **{f"hp.{name}": value for name, value in result.hp.items()},
        **{f"recipe.{name}": value for name, value in result.recipe.items()},
    }
    rows: dict[str, list[dict[str, Any]]] = {
        "tasks": [{**as_dict(task), **force}],
        "classes": [],
        "confusion": [],
    }
    rows["phases"] = [as_dict(PhaseRow(**own, task=result.task, **asdict(p))) for p in result.phases]
    task_of = [t for t, size in enumerate(training.sizes) for _ in range(size)]
    names = training.view.class_names
    for e in result.evaluations:
        for c in range(len(e.confusion)):
            row = ClassRow(
                **own,
                split=e.split,
                after_task=result.task,
                classifier=e.classifier,
                primary=e.primary,
                class_=c,
                class_name=names[c],
                task=task_of[c],
                n=int(e.confusion[c].sum()),
                correct=int(e.confusion[c, c]),
                correct_within_task=int(e.correct_within_task[c]),
                predicted=int(e.confusion[:, c].sum()),
                mean_true_score=float(e.mean_true_score[c]),
                mean_other_score=None if e.mean_other_score is None else float(e.mean_other_score[c]),
                weight_norm=float(e.weight_norm[c]),
                bias=None if e.bias is None else float(e.bias[c]),
                correct_rows=e.correct_rows[c],
            )
            rows["classes"].append(as_dict(row))
        for t, p in zip(*(index.tolist() for index in np.nonzero(e.confusion)), strict=True):
            cell = ConfusionRow(
                **own,
                split=e.split,
                after_task=result.task,
                classifier=e.classifier,
                primary=e.primary,
                true_class=t,
                predicted_class=p,
                count=int(e.confusion[t, p]),
            )
            rows["confusion"].append(as_dict(cell))
    return rows
