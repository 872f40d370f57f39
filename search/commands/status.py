"""`status`: the state of a run folder, during a command or afterwards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from analysis.lake.checksums import Damaged
from analysis.lake.ledger import openings, told
from analysis.lake.study import StudyRecord, read_study
from analysis.selection.mixture import mixtures
from cl_core.errors import BadRequest
from search.amounts import clock
from search.cells.standing import read_progress
from search.display.live import table
from search.jobs.progress import CellProgress
from search.lake.writer import recorded
from search.storage.run_folder import LOCK


def status(folder: Path) -> dict[str, Any]:
    """Counts by cell and state, the best so far, errors, rate and time left, as plain values.

    Cells count configurations, `runs` counts runs by state. Raises BadRequest where there is no run.
    """
    if not folder.is_dir():
        raise BadRequest(f"no folder {folder}: name the folder of a run, such as runs/quickstart")
    cells = read_progress(folder)
    damaged: list[Damaged] = []
    every = recorded(folder, damaged.append)
    rows = {trial: row for trial, row in every.items() if row["purpose"] == "search"}
    evaluation = [row["status"] for row in every.values() if row["purpose"] != "search"]
    states = [row["status"] for row in rows.values()]
    active = is_active(folder)
    ended = sum(cell.completed + cell.stopped + cell.failed for cell in cells)
    left = sum(cell.budget for cell in cells) - ended
    pace = _pace(rows)
    return {
        "folder": str(folder),
        **_protocol(folder),
        "active": active,
        "cells": [asdict(cell) for cell in cells],
        "runs": {state: states.count(state) for state in ("completed", "stopped", "failed")},
        "evaluation": {state: evaluation.count(state) for state in ("completed", "failed")},
        "best": _best(cells, _direction(folder)),
        "mixtures": mixtures(every.values()),
        "damaged": [str(error) for error in damaged],
        "errors": {t: row["error"] or "" for t, row in sorted(every.items()) if row["status"] == "failed"},
        "left": left,
        "runs per minute": pace,
        "seconds left": 60 * left * len(rows) / (pace * ended)
        if active and pace and ended and left
        else None,
    }


def show(folder: Path, room: int = 100) -> list[Any]:
    """What `status` prints, `room` characters wide: rich tables and lines."""
    state = status(folder)
    out: list[Any] = [table(read_progress(folder), room)]
    doing = "working now" if state["active"] else ("finished" if not state["left"] else "not working")
    parts = [f"{folder}: {doing}", *(f"{count} {name}" for name, count in state["runs"].items() if count)]
    if state["left"]:
        parts.append(f"{state['left']} configurations left")
    if state["runs per minute"] and state["left"]:
        parts.append(f"{state['runs per minute']:.1f} runs a minute")
    if state["seconds left"]:
        parts.append(f"about {clock(state['seconds left'])} left")
    out.append(", ".join(parts))
    out.append(f"protocol: {state['protocol']}, {state['causal']}")
    if state["label"]:
        out.append(state["label"])
    runs = ", ".join(f"{count} {name}" for name, count in state["evaluation"].items() if count)
    out.append(f"test set: {told(state['openings'])}" + (f"; evaluation: {runs}" if runs else ""))
    if state["best"]:
        out.append(f"best so far: {state['best']['value']:.4f} ({state['best']['cell']})")
    out += [f"warning: {line}" for line in state["mixtures"]]
    out += state["damaged"]
    out += [f"failed: {trial}: {error}" for trial, error in state["errors"].items()]
    if state["errors"]:
        first = next(iter(state["errors"]))
        out.append(f"full output: cl-search logs {folder} {first}")
    return out


def is_active(folder: Path) -> bool:
    """Whether a `run` command works in the folder now: it holds the lock."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(str(folder.absolute() / LOCK), blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _protocol(folder: Path) -> dict[str, Any]:
    """How configurations are chosen, what that looks at, and how often the test set was opened."""
    study = read_study(folder) or StudyRecord()
    return {
        "protocol": study.protocol.select_on,
        "causal": study.resolved.causal,
        "label": study.protocol.label,
        "openings": openings(folder),
    }


def _direction(folder: Path) -> str:
    study = read_study(folder)
    return (study and study.resolved.direction) or "max"


def _best(cells: list[CellProgress], direction: str) -> dict[str, Any] | None:
    known = [(cell.best, cell.cell) for cell in cells if cell.best is not None and not cell.seeks]
    if not known:
        return None
    value, name = (max if direction == "max" else min)(known, key=lambda pair: pair[0])
    return {"cell": name, "value": value}


def _pace(rows: dict[str, dict[str, Any]]) -> float | None:
    """Runs a minute over the last half of what has ended; None when it cannot be said."""
    ends = sorted(row["ended"] for row in rows.values() if row["ended"])
    recent = ends[len(ends) // 2 :]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    return 60 * (len(recent) - 1) / float(recent[-1] - recent[0])
