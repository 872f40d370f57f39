"""A lake with the trials of one searched cell, and its parameters as study.yaml states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.lake.arrow_schema import ADDED
from analysis.lake.run_folder import STUDY
from cl_core.records import RunRow, as_dict
from tests.analysis.planted_tables import merged


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
    merged(folder, {"runs": rows}, {"runs": added})
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
