"""A lake without a run: counts simulated from a simple model of forgetting, written as the writer does.

A class of age a (in tasks) is answered rightly with probability skill x keep**a; what is wrong goes to the
newest task with probability `bias`, else anywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from analysis.lake.open import open_results
from analysis.lake.run_folder import STUDY, file_stem
from analysis.selection.selection import cells
from cl_core.metrics import summary
from cl_core.records import TABLES, ClassRow, ConfusionRow, PhaseRow, RunRow, TaskRow, as_dict
from tests.analysis.planted_tables import place, put

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
    """The contents of a lake."""

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


def _run(folder, plan, label, scenario, sizes, number, order, purpose="search", splits=None):
    splits, seed = splits or plan.splits, int(purpose != "search")
    own = "val" if purpose == "reference" else splits[-1]
    cell, class_order = f"{label}@{scenario}", "natural" if order == 0 else f"seed:{order}"
    run = f"{cell}/{number}" + ("" if order == 0 else f"/{class_order}/s0")
    if purpose != "search":
        run = f"{cell}/{number}/{purpose}/{class_order}/s1"
    rng = np.random.default_rng(int(hashlib.sha256(run.encode()).hexdigest()[:8], 16))
    identity = {"cell": cell, "label": label, "method": label, "run": run}
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
            network=hashlib.sha256(f"{run}{task}".encode()).hexdigest()[:20],
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
        **place(scenario, sizes, class_order, seed),
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
    stem = file_stem(run)
    tables = {"tasks": task_rows, "phases": phases, "classes": classes, "confusion": confusion}
    for table, rows in tables.items():
        put(folder, table, stem, rows)
    put(folder, "runs", stem, [{**as_dict(ended), **hp, **recipe}])
