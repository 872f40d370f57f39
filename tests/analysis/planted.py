"""A run's folder without a run: counts simulated from a simple model of forgetting, written as the writer
writes them.

A class of age a (in tasks) is answered rightly with probability skill x keep**a; what is wrong goes to the
newest task with probability `bias`, else anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from analysis.lake.arrow_schema import ADDED, table_schema
from analysis.lake.open import open_results
from analysis.lake.run_folder import GATHERED, STUDY, file_stem, run_file, table_folder
from analysis.selection.selection import cells
from cl_core.metrics import summary
from cl_core.records import (
    TABLES,
    ClassRow,
    ConfusionRow,
    PhaseRow,
    RunRow,
    TaskRow,
    as_dict,
)

HP = {"hp.kd_weight": float, "hp.exemplars_per_class": int, "hp.distill": bool}
RECIPE = {"recipe.base.lr": float, "recipe.increment.lr": float}
FRESH = (8, 9)  # class orders that confirm
KEEP = {
    "finetune": (0.05, 0.95),
    "joint": (1.0, 0.0),
    "lwf": (0.6, 0.6),
    "icarl": (0.85, 0.3),
    "bic": (0.9, 0.1),
}


@dataclass(frozen=True)
class Plan:
    """What a lake holds."""

    labels: tuple[str, ...] = ("finetune", "joint", "lwf", "icarl")
    scenarios: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("B0-5tasks", (2, 2, 2, 2, 2)),
        ("B4-inc2", (4, 2, 2, 2)),
    )
    trials: int = 4
    orders: int = 1
    failed: tuple[int, ...] = ()  # numbers of trials that fail
    stopped: tuple[int, ...] = ()  # ... that are stopped after half of their tasks
    splits: tuple[str, ...] = ("val",)
    rows: int = 20  # of a class
    confirmed: tuple[int, ...] = ()  # numbers of trials that are confirmed on two fresh class orders
    start_from: tuple[str, ...] = ("paper",)
    direction: str = "max"  # of the objective, the average incremental accuracy
    evaluated: bool = False  # by final runs on test rows, and reruns on both


def write(folder: Path, plan: Plan) -> Path:
    """A run's folder in `folder`; returns it."""
    study = {
        "study": "fixture",
        "data": {"name": "digits"},
        "scenarios": [name for name, _ in plan.scenarios],
        "methods": {label: {"method": label} for label in plan.labels},
        "search": {
            "objective": {"average_incremental_accuracy": plan.direction},
            "start_from": [*plan.start_from],
        },
        "protocol": {"select_on": "validation", "validation": 0.1},
        "resolved": {
            "identity": "0123456789",
            "versions": {"torch": "2.15.0", "cl-search": "0.1.0"},
            "warnings": ["icarl: hp.exemplars_per_class is searched for accuracy alone"],
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    for table in TABLES:
        put(folder, table, "schema", [])
    for scenario, sizes in plan.scenarios:
        for label in plan.labels:
            for number in range(plan.trials):
                for order in range(plan.orders):
                    _run(folder, plan, label, scenario, sizes, number, order)
            for number in plan.confirmed:
                for order in FRESH:
                    _run(folder, plan, label, scenario, sizes, number, order, "confirm")
    if plan.evaluated:
        chosen = {(cell.label, cell.scenario): cell.selected_trial for cell in cells(open_results(folder))}
        for (label, scenario), number in chosen.items():
            for order in range(plan.orders):
                place = (folder, plan, label, scenario, dict(plan.scenarios)[scenario])
                for each in {0, number}:
                    _run(*place, each, order, "final", ("test",))
                _run(*place, number, order, "reference", ("val", "test"))
    return folder


def schema(table: str) -> pa.Schema:
    """The full schema of a table of this lake."""
    return table_schema(table, {"runs": HP | RECIPE, "tasks": HP}.get(table))


def rewrite(folder: Path, table: str, trial: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Apply `change(frame)` to a trial's file of a table."""
    path = run_file(folder, table, trial)
    frame = pq.read_table(path).to_pandas()
    changed = change(frame)
    pq.write_table(pa.Table.from_pandas(changed, schema=schema(table), preserve_index=False), path)


def setting(name: str, value: object, where: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change for `rewrite`: one value of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[where, name] = value
        return frame

    return change


def put(folder: Path, table: str, stem: str, rows: list[dict]) -> Path:
    """One file of a table."""
    path = table_folder(folder, table) / f"{stem}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema(table)), path, compression="zstd")
    return path


def gather(folder: Path, table: str, stems: list[str], remove: bool = True) -> None:
    """Merge some trials' files as `gather` does."""
    paths = [table_folder(folder, table) / f"{stem}.parquet" for stem in stems]
    pq.write_table(pa.concat_tables([pq.read_table(p) for p in paths]), paths[0].parent / GATHERED)
    for path in paths if remove else []:
        path.unlink()


def _merged(folder: Path, rows: Mapping[str, list[dict]], added: Mapping[str, Mapping[str, type]]) -> None:
    """Write every table as one gathered file."""
    for table in TABLES:
        path = table_folder(folder, table) / GATHERED
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = pa.Table.from_pylist(rows.get(table, []), schema=table_schema(table, added.get(table)))
        pq.write_table(whole, path)


def _place(scenario: str, sizes: Sequence[int], class_order: str, seed: int = 0) -> dict[str, Any]:
    """Where a trial ran, as its row says it."""
    increments = ",".join(map(str, sizes[1:]))
    return {
        "scenario": scenario,
        "base": sizes[0],
        "increments": increments,
        "class_order": class_order,
        "seed": seed,
        "net": "convnet-small",
    }


def _run(folder, plan, label, scenario, sizes, number, order, purpose="search", splits=None):
    splits, seed = splits or plan.splits, int(purpose != "search")
    own = "val" if purpose == "reference" else splits[-1]
    cell, class_order = f"{label}@{scenario}", "natural" if order == 0 else f"seed:{order}"
    trial = f"{cell}/{number}" + ("" if order == 0 else f"/{class_order}/s0")
    if purpose != "search":
        trial = f"{cell}/{number}/{purpose}/{class_order}/s1"
    rng = np.random.default_rng(int(hashlib.sha256(trial.encode()).hexdigest()[:8], 16))
    identity = {"cell": cell, "label": label, "method": label, "run": trial}
    keep, bias = KEEP[label]
    kd_weight = 1.0 if number == 0 else float(10 ** (number % 4 - 2))
    skill = 0.95 - 0.08 * abs(np.log10(kd_weight)) - 0.01 * order
    hp = {"hp.kd_weight": kd_weight if label == "lwf" else None}
    hp["hp.exemplars_per_class"] = 10 * (1 + number % 3) if label == "icarl" else None
    hp["hp.distill"] = number % 2 == 0 if label == "lwf" else None
    recipe = {"recipe.base.lr": 0.1, "recipe.increment.lr": 0.1 if number == 0 else 0.02 * number}
    status = "failed" if number in plan.failed else "stopped" if number in plan.stopped else "completed"
    tasks = {"failed": 0, "stopped": len(sizes) // 2, "completed": len(sizes)}[status]
    rules = {"nearest-mean": True, "head": False} if label == "icarl" else {"head": True}
    task_rows, phases, classes, confusion, primary = [], [], [], [], []
    for task in range(tasks):
        seen = sum(sizes[: task + 1])
        home = np.repeat(np.arange(task + 1), sizes[: task + 1])
        for split in splits:
            for rule, mine in rules.items():
                counts = np.zeros((seen, seen), dtype=np.int64)
                new = np.flatnonzero(home == task)
                more = 0.0 if mine else 0.3  # a head without correction prefers the newest task
                for c in range(seen):
                    right = min(0.99, skill * max(0.02, keep - more / 2) ** (task - home[c]))
                    chance = np.full(seen, (1 - bias) / seen)
                    chance[new] += min(1.0, bias + more) / len(new)
                    chance[c] = 0
                    chance = (1 - right) * chance / chance.sum()
                    chance[c] = right
                    counts[c] = rng.multinomial(plan.rows, chance / chance.sum())
                if mine and split == own:
                    primary.append(counts)
                at = {**identity, "split": split, "after_task": task, "classifier": rule, "primary": mine}
                for c in range(seen):
                    within = counts[c, home == home[c]].sum()
                    norm = 1.0 + 0.15 * home[c] * bias if rule == "head" else None
                    row = ClassRow(
                        **at,
                        class_=c,
                        class_name=f"<digit {c}>",
                        task=int(home[c]),
                        n=int(counts[c].sum()),
                        correct=int(counts[c, c]),
                        correct_within_task=int(within),
                        predicted=int(counts[:, c].sum()),
                        mean_true_score=float(rng.normal()),
                        weight_norm=norm,
                        bias=0.0 if norm else None,
                    )
                    classes.append(as_dict(row))
                    for p in np.flatnonzero(counts[c]):
                        pair = ConfusionRow(
                            **at, true_class=c, predicted_class=int(p), count=int(counts[c, p])
                        )
                        confusion.append(as_dict(pair))
        bytes_kept = 64 * 20 * seen if label in ("icarl", "bic") else 0
        task_row = TaskRow(
            **identity,
            task=task,
            network=hashlib.sha256(f"{trial}{task}".encode()).hexdigest()[:20],
            classes=sizes[task],
            images=1000,
            exemplars=bytes_kept // 64,
            exemplar_bytes=bytes_kept,
            kept_bytes=bytes_kept,
            numerics="0" * 20,
            shared=task == 0,
            seconds=1.5 + number,
        )
        task_rows.append({**as_dict(task_row), **hp})
        for epoch in range(2):
            term = PhaseRow(
                **identity,
                task=task,
                phase="train",
                epoch=epoch,
                term="ce",
                value=1.0 / (epoch + 1),
                weight=1.0,
                learning_rate=0.1,
            )
            phases.append(as_dict(term))
    values = summary(primary, sizes) if primary else {}
    kept = task_rows[-1]["kept_bytes"] if task_rows else None
    ended = RunRow(
        **identity,
        trial_digest=hashlib.sha256(f"{cell}{number}".encode()).hexdigest()[:20],
        trial=number,
        purpose=purpose,
        dataset="digits",
        **_place(scenario, sizes, class_order, seed),
        status=status,
        split=own,
        tasks=len(sizes),
        tasks_done=tasks,
        error="NonFiniteLoss: <b>kd</b> is nan in task 1" if status == "failed" else None,
        objective=None if status == "failed" else values.get("average_incremental_accuracy"),
        numerics="f" * 20,
        kept_bytes=kept,
        seconds=tasks * (1.5 + number),
        versions='{"torch": "2.15.0", "cl-search": "0.1.0"}',
        **values,
    )
    stem = file_stem(trial)
    tables = {"tasks": task_rows, "phases": phases, "classes": classes, "confusion": confusion}
    for table, rows in tables.items():
        put(folder, table, stem, rows)
    put(folder, "runs", stem, [{**as_dict(ended), **hp, **recipe}])


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
) -> Path:
    """A run's folder with planted accuracies, gathered; returns it. Metrics follow from the counts."""
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
                run = _planted(one, scenario, sizes, order, noise, dataset, device, rows)
                for table, more in run.items():
                    found[table] += more
    hp = {f"hp.{k}": type(v) for one in planted for k, v in one.hp.items()}
    recipe = {f"recipe.{k}": type(v) for one in planted for k, v in one.recipe.items()}
    _merged(folder, found, {"runs": hp | recipe, "tasks": hp})
    return folder


def _planted(one, scenario, sizes, order, noise, dataset, device, rows):
    cell, class_order = f"{one.label}@{scenario}", "natural" if order == 0 else f"seed:{order}"
    trial = f"{cell}/0" + ("" if order == 0 else f"/{class_order}/s0")
    identity = {"cell": cell, "label": one.label, "method": one.method, "run": trial}
    own = int(hashlib.sha256(trial.encode()).hexdigest()[:8], 16) / 2**32 - 0.5
    shift = SHIFTS[order] + 2 * noise * own
    hp = {f"hp.{name}": value for name, value in one.hp.items()}
    confusions, confusion, task_rows = [], [], []
    for task in range(len(sizes)):
        seen = sum(sizes[: task + 1])
        first = seen - sizes[task]
        counts = np.zeros((seen, seen), dtype=np.int64)
        for c in range(seen):
            level = one.newest if one.newest is not None and c >= first else one.old(scenario)
            right = round(rows * min(1.0, max(0.0, level + shift)))
            counts[c, c] += right
            # Mistakes go to the newest class where new classes are known better, else round about.
            other = seen - 1 if one.newest is not None and c != seen - 1 else (c + 1) % seen
            counts[c, other] += rows - right
        confusions.append(counts)
        at = {**identity, "split": "val", "after_task": task, "classifier": "head", "primary": True}
        for c, p in zip(*np.nonzero(counts), strict=True):
            pair = ConfusionRow(**at, true_class=int(c), predicted_class=int(p), count=int(counts[c, p]))
            confusion.append(as_dict(pair))
        task_row = TaskRow(
            **identity,
            task=task,
            network=hashlib.sha256(f"{trial}{task}".encode()).hexdigest()[:20],
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
        **_place(scenario, sizes, class_order),
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
    return {"runs": [{**as_dict(ended), **hp, **recipe}], "tasks": task_rows, "confusion": confusion}


def search(
    folder: Path,
    points: Sequence[Mapping[str, Any]],
    parameters: Sequence[Mapping[str, Any]] | None,
    **study: Any,
) -> Path:
    """A run's folder that holds the `trials` rows of one cell, lwf@B0-3tasks; returns it.

    A point gives the columns of one run that differ from a completed one: "objective", "hp.x", ...
    `parameters` stands in study.yaml as the cell's; `study` adds keys to it.
    """
    plain = {
        "study": folder.name,
        "data": {"name": "digits"},
        "scenarios": ["B0-3tasks"],
        "methods": {"lwf": {"method": "lwf"}},
        "search": {"sampler": "random", "objective": {"average_incremental_accuracy": "max"}},
        "resolved": {"identity": "search", "cells": [{"name": "lwf@B0-3tasks"}]},
        **study,
    }
    if parameters is not None:
        plain["resolved"]["cells"][0]["parameters"] = [dict(p) for p in parameters]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY).write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    rows = []
    for number, point in enumerate(points):
        row = RunRow(
            cell="lwf@B0-3tasks",
            label="lwf",
            method="lwf",
            run=f"lwf@B0-3tasks/{number}",
            trial_digest=f"{number:020d}",
            trial=number,
            purpose="search",
            dataset="digits",
            scenario="B0-3tasks",
            base=2,
            increments="2,2",
            class_order="natural",
            seed=0,
            net="convnet-small",
            status="completed",
            split="val",
            tasks=3,
            tasks_done=3,
            seconds=10.0,
            ended=float(number),
        )
        rows.append({**as_dict(row), **point})
    added = {k: type(v) for row in rows for k, v in row.items() if k.startswith(ADDED)}
    _merged(folder, {"runs": rows}, {"runs": added})
    return folder


def ranged(name: str, low: float, high: float, log: bool = False, **more: Any) -> dict[str, Any]:
    """A real parameter hp.<name> as study.yaml states it."""
    return {
        "name": f"hp.{name}",
        "column": f"hp.{name}",
        "kind": "float",
        "low": low,
        "high": high,
        "log": log,
    } | {
        "default": low,
        **more,
    }


def chosen_from(name: str, *options: Any, **more: Any) -> dict[str, Any]:
    """A choice hp.<name> as study.yaml states it."""
    return {"name": f"hp.{name}", "column": f"hp.{name}", "kind": "choice", "choices": list(options)} | {
        "default": options[0],
        **more,
    }
