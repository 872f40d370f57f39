"""A large lake without training: a study of ten labels and two scenarios of 100 classes in ten tasks.

Its rows are those that a worker writes. The first `OWN` runs have a file each, as ended runs have; the others
are in segments, as a study merges them while it runs. A class of age a is answered rightly with
probability skill x keep**a; other answers name the newest task with probability `BIAS`, else any class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from analysis.lake.arrow_schema import study_schemas
from analysis.lake.checksums import write_sealed
from analysis.lake.run_folder import SCHEMA, STUDY, run_file, table_folder
from cl_core.metrics import summary
from cl_core.records import TABLES

SCENARIOS: dict[str, tuple[int, ...]] = {"B0-10tasks": (10,) * 10, "B46-inc6": (46, *(6,) * 9)}
METHODS: dict[str, float] = {
    "finetune": 0.5,
    "joint": 1.0,
    "lwf": 0.8,
    "lwm": 0.82,
    "icarl": 0.93,
    "bic": 0.94,
    "eeil": 0.9,
    "lucir": 0.95,
    "replay": 0.88,
    "pass": 0.92,
}  # label -> keep
BIAS, ROWS = 0.6, 20  # rows of a class
TWO_RULES = ("icarl", "bic")  # methods whose head answers beside their own rule
CONFIRMED, FRESH = 3, 3  # trials of a cell that are confirmed, and their fresh class orders
OWN, AT_ONCE = 1000, 128  # runs with files of their own; runs that are generated together, and of a segment


@dataclass(frozen=True)
class Planned:
    """One run of the lake."""

    label: str
    scenario: str
    trial: int
    purpose: str = "search"
    class_order: str = "natural"

    @property
    def run(self) -> str:
        """The run's name."""
        own = f"{self.label}@{self.scenario}/{self.trial}"
        return own if self.purpose == "search" else f"{own}/{self.purpose}/{self.class_order}/s1"

    @property
    def values(self) -> dict[str, Any]:
        """The values of the searched hyperparameters."""
        rng = np.random.default_rng([self.trial, *self.label.encode()])
        return {
            "hp.kd_weight": float(10 ** rng.uniform(-2, 2)),
            "hp.temperature": float(rng.uniform(1, 5)),
            "hp.exemplars_per_class": int(rng.integers(5, 50)),
            "recipe.increment.lr": float(10 ** rng.uniform(-3, -0.5)),
        }

    @property
    def skill(self) -> float:
        """The accuracy on new classes: it falls with the distance from the best values."""
        found = self.values
        return float(
            0.9
            - 0.05 * abs(np.log10(found["hp.kd_weight"]))
            - 0.1 * abs(np.log10(found["recipe.increment.lr"]) + 2)
        )


HP = {"kd_weight": float, "temperature": float, "exemplars_per_class": int}
SCHEMAS = study_schemas(HP, {"lr": float})
PARAMETERS = [
    {"name": "hp.kd_weight", "kind": "float", "low": 0.01, "high": 100.0, "log": True, "default": 1.0},
    {"name": "hp.temperature", "kind": "float", "low": 1.0, "high": 5.0, "log": False, "default": 2.0},
    {"name": "hp.exemplars_per_class", "kind": "int", "low": 5, "high": 50, "log": False, "default": 20},
    {"name": "recipe.increment.lr", "kind": "float", "low": 0.001, "high": 0.32, "log": True, "default": 0.1},
]


def generate(folder: Path, trials: int, seed: int = 0) -> Path:
    """Write a run folder with `trials` trials, those that confirm and those that test some; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    each = max(CONFIRMED, trials // (len(METHODS) * len(SCENARIOS)))
    (folder / STUDY).write_text(yaml.safe_dump(_study(each), sort_keys=False), encoding="utf-8")
    for table, schema in SCHEMAS.items():
        table_folder(folder, table).mkdir(parents=True, exist_ok=True)
        write_sealed(schema.empty_table(), table_folder(folder, table) / SCHEMA)
    plan, rng = list(_plan(each)), np.random.default_rng(seed)
    for start in range(0, len(plan), AT_ONCE):
        runs = sorted(plan[start : start + AT_ONCE], key=lambda one: one.run)
        for table, (rows, ends) in _tables(runs, rng).items():
            if start >= OWN:
                segment = f"gathered.{start // AT_ONCE:06d}.parquet"
                write_sealed(rows, table_folder(folder, table) / segment)
                continue
            for one, first, end in zip(runs, [0, *ends[:-1]], ends, strict=True):
                write_sealed(rows.slice(first, end - first), run_file(folder, table, one.run))
    return folder


def _plan(each: int) -> Iterator[Planned]:
    for scenario in SCENARIOS:
        for label in METHODS:
            mine = [Planned(label, scenario, trial) for trial in range(each)]
            yield from mine
            best = sorted(mine, key=lambda one: -one.skill)[:CONFIRMED]
            for trial in {0, *(one.trial for one in best)}:
                for order in range(FRESH):
                    yield Planned(label, scenario, trial, "confirm", f"seed:{order + 8}")


def _study(each: int) -> dict[str, Any]:
    cells = [f"{label}@{scenario}" for scenario in SCENARIOS for label in METHODS]
    parameters = [{**one, "column": one["name"]} for one in PARAMETERS]
    return {
        "study": "generated",
        "data": {"name": "cifar100"},
        "scenarios": list(SCENARIOS),
        "methods": {label: {"method": label} for label in METHODS},
        "search": {
            "trials": each,
            "sampler": "tpe",
            "objective": {"average_incremental_accuracy": "max"},
            "start_from": ["paper"],
        },
        "protocol": {"select_on": "validation", "validation": 0.1},
        "resolved": {
            "identity": "generated",
            "versions": {"torch": "2.15.0"},
            "cells": [
                {
                    "name": name,
                    "budget": each,
                    "confirm": {"top": CONFIRMED, "orders": FRESH},
                    "parameters": parameters,
                }
                for name in cells
            ],
        },
    }


@dataclass
class _Rows:
    """Columns of a table, gathered run by run."""

    parts: list[dict[str, Any]]
    lengths: list[int]

    def add(self, length: int, **columns: Any) -> None:
        self.parts.append(columns)
        self.lengths.append(length)

    def table(self, name: str, runs: Sequence[Planned]) -> tuple[pa.Table, list[int]]:
        """The rows of all runs, and where those of each run end."""
        schema, known = SCHEMAS[name], {}
        identity = {
            "cell": [f"{one.label}@{one.scenario}" for one in runs],
            "label": [one.label for one in runs],
            "method": [one.label for one in runs],
            "run": [one.run for one in runs],
        }
        index = pa.array(np.repeat(np.arange(len(runs)), self.lengths).astype(np.int32))
        for column, values in identity.items():
            known[column] = pa.array(values, pa.string()).take(index)
        for column in self.parts[0]:
            field = schema.field(column.rstrip("_"))
            whole = [
                pa.array(part[column], field.type)
                if isinstance(part[column], np.ndarray | list)
                else pa.repeat(pa.scalar(part[column], field.type), length)
                for part, length in zip(self.parts, self.lengths, strict=True)
            ]
            known[field.name] = pa.chunked_array(whole, field.type)
        total = sum(self.lengths)
        filled = [known.get(field.name, pa.nulls(total, field.type)) for field in schema]
        ends = [int(end) for end in np.cumsum(self.lengths)]
        return pa.table(filled, schema=schema).combine_chunks(), ends


def _tables(runs: Sequence[Planned], rng: np.random.Generator) -> dict[str, tuple[pa.Table, list[int]]]:
    out = {table: _Rows([], []) for table in TABLES}
    for number, one in enumerate(runs):
        _add(out, one, number, rng)
    return {table: rows.table(table, runs) for table, rows in out.items()}


def _add(out: dict[str, _Rows], one: Planned, number: int, rng: np.random.Generator) -> None:
    sizes = SCENARIOS[one.scenario]
    keep, seconds = METHODS[one.label], float(rng.uniform(50, 100))
    kept = 3072 * one.values["hp.exemplars_per_class"] if keep > 0.85 else 0
    tasks, seen = np.arange(len(sizes)), np.cumsum(sizes)
    values = {name: value for name, value in one.values.items() if name.startswith("hp.")}
    values_of_tasks = {name: [value] * len(sizes) for name, value in values.items()}
    rules = {"head": (keep, True)}
    if one.label in TWO_RULES:
        rules = {"head": (0.8 * keep, False), "nearest-mean": (keep, True)}
    found = {rule: _answers(sizes, one.skill, share, rng) for rule, (share, _) in rules.items()}
    for table, names in (("confusion", CONFUSION), ("classes", CLASSES)):
        parts = [(rule, getattr(answers, table)) for rule, answers in found.items()]
        lengths = [len(part["after_task"]) for _, part in parts]
        order = np.argsort(np.concatenate([part["after_task"] for _, part in parts]), kind="stable")
        out[table].add(
            sum(lengths),
            split="val",
            classifier=np.repeat([rule for rule, _ in parts], lengths)[order].tolist(),
            primary=np.repeat([rules[rule][1] for rule, _ in parts], lengths)[order],
            **{name: np.concatenate([part[name] for _, part in parts])[order] for name in names},
        )
    out["tasks"].add(
        len(sizes),
        task=tasks,
        network=[f"{one.run}/{t}" for t in tasks],
        classes=np.array(sizes),
        images=5000,
        exemplars=seen * kept // 3072,
        exemplar_bytes=seen * kept,
        kept_bytes=seen * kept,
        numerics="0" * 20,
        parameters=100_000,
        shared=tasks == 0,
        seconds=seconds / len(sizes),
        **values_of_tasks,
    )
    epochs = np.tile(np.arange(5), len(sizes))
    out["phases"].add(
        len(epochs),
        task=np.repeat(tasks, 5),
        phase="train",
        epoch=epochs,
        term="ce",
        value=1.0 / (1 + epochs),
        weight=1.0,
        learning_rate=0.1,
    )
    metrics = summary(next(found[rule].matrices for rule, (_, own) in rules.items() if own), sizes)
    known = {
        "trial": one.trial,
        "trial_digest": f"{one.label}{one.trial}",
        "purpose": one.purpose,
        "dataset": "cifar100",
        "scenario": one.scenario,
        "base": sizes[0],
        "increments": ",".join(map(str, sizes[1:])),
        "class_order": one.class_order,
        "seed": int(one.purpose != "search"),
        "net": "resnet32",
        "status": "completed",
        "split": "val",
        "tasks": len(sizes),
        "tasks_done": len(sizes),
        "objective": metrics["average_incremental_accuracy"],
        "kept_bytes": int(seen[-1] * kept),
        "parameters": 100_000,
        "seconds": seconds,
        "wall_seconds": seconds,
        "started": float(number),
        "ended": number + seconds,
        "device": "cpu",
        "attempt": 0,
        **values,
        "recipe.base.lr": 0.1,
        "recipe.increment.lr": one.values["recipe.increment.lr"],
        **metrics,
    }
    out["runs"].add(1, **{name: [value] for name, value in known.items()})


CONFUSION = ("after_task", "true_class", "predicted_class", "count")
NAMES = np.array([f"class {c:02d}" for c in range(100)], dtype=object)
CLASSES = (
    *("after_task", "class_", "class_name", "task", "n", "correct", "correct_within_task", "predicted"),
    *("mean_true_score", "weight_norm", "correct_rows"),
)


@dataclass(frozen=True)
class _Answers:
    """The counts of one classifier in one run, and its columns of two tables."""

    matrices: list[Any]
    confusion: dict[str, Any]
    classes: dict[str, Any]


def _answers(sizes: Sequence[int], skill: float, keep: float, rng: np.random.Generator) -> _Answers:
    seen = np.cumsum(sizes)
    total = int(seen[-1])
    home = np.repeat(np.arange(len(sizes)), sizes)
    after, true = np.repeat(np.arange(len(sizes)), seen), np.concatenate([np.arange(n) for n in seen])
    chance = skill * keep ** (after - home[true])
    shape = (len(true), ROWS)
    right = rng.random(shape) < chance[:, None]
    start, many = (seen - sizes)[after][:, None], np.asarray(sizes)[after][:, None]
    newest = start + (rng.random(shape) * many).astype(np.int64)
    anywhere = (rng.random(shape) * seen[after][:, None]).astype(np.int64)
    answer = np.where(right, true[:, None], np.where(rng.random(shape) < BIAS, newest, anywhere))
    counts = np.bincount(
        (np.arange(len(true))[:, None] * total + answer).ravel(), minlength=len(true) * total
    )
    counts = counts.reshape(len(true), total)
    matrices = [m[:, :n] for m, n in zip(np.split(counts, np.cumsum(seen)[:-1]), seen, strict=True)]
    row, column = np.nonzero(counts)
    values = (after[row], true[row], column, counts[row, column])
    classes = {
        "after_task": after,
        "class_": true,
        "class_name": NAMES[true],
        "task": home[true],
        "n": np.full(len(true), ROWS),
        "correct": counts[np.arange(len(true)), true],
        "correct_within_task": (counts * (home[None, :] == home[true][:, None])).sum(axis=1),
        "predicted": np.concatenate([m.sum(axis=0) for m in matrices]),
        "mean_true_score": rng.normal(size=len(true)),
        "weight_norm": rng.uniform(1, 2, len(true)),
        "correct_rows": np.array(
            [line.tobytes() for line in np.packbits(answer == true[:, None], axis=1)], dtype=object
        ),
    }
    return _Answers(matrices, dict(zip(CONFUSION, values, strict=True)), classes)
