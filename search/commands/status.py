"""`status`: the state of a run folder, during a command or afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from analysis.lake.amounts import clock, plural, size
from analysis.lake.checksums import Damaged
from analysis.lake.ledger import openings, told
from analysis.lake.run_folder import LOGS, bytes_below, tables_of
from analysis.lake.run_rows import run_rows
from analysis.lake.study import StudyRecord, read_study
from analysis.selection.mixture import mixtures
from cl_core.errors import BadRequest
from cl_core.records import CONFIRM, SEARCHING
from search.cells.cell_progress import read_progress
from search.display.cells import cell_table, ended, meaning_of_best, total, with_running
from search.display.runs import run_lines
from search.jobs.nodes import left_out_nodes
from search.jobs.progress import CellProgress
from search.remote.checkpoint_copies import checkpoint_bytes
from search.remote.copies import shown
from search.remote.working_copy import is_worked_in
from search.worker.progress import RunProgress, read_progress_files


def status(folder: Path) -> dict[str, Any]:
    """Return counts by cell and state, the best so far, selected trials, errors, rate and time left.

    Cells count trials, `runs` counts runs by state. Raises BadRequest where there is no run.
    """
    if not folder.is_dir():
        raise BadRequest(f"no folder {folder}: name a run folder, such as runs/quickstart")
    active = is_worked_in(folder)
    training = read_progress_files(folder) if active else []
    study = read_study(folder) or StudyRecord()
    damaged: list[Damaged] = []
    every = run_rows(folder, damaged.append)
    cells = with_running(read_progress(folder, every), training)
    rows = {run: row for run, row in every.items() if row["purpose"] in SEARCHING}
    evaluation = [row["status"] for row in every.values() if row["purpose"] not in SEARCHING]
    states = [row["status"] for row in rows.values()]
    done = ended(cells)
    left = total(cells) - done
    pace = _pace(rows)
    known = active and pace and done and left
    return {
        "folder": shown(folder),
        "protocol": study.protocol.select_on,
        "causal": study.resolved.causal,
        "label": study.protocol.label,
        "openings": openings(folder),
        "active": active,
        "bytes": {
            "tables": bytes_below(tables_of(folder)),
            "checkpoints": checkpoint_bytes(folder),
            "logs": bytes_below(folder / LOGS),
        },
        "cells": [asdict(cell) for cell in cells],
        "running": [asdict(run) for run in training],
        "runs": {state: states.count(state) for state in ("completed", "stopped", "failed")},
        "evaluation": {state: evaluation.count(state) for state in ("completed", "failed")},
        "best": _best(cells, study.resolved.direction or "max"),
        "selected": [] if active else _selected(folder, every),
        "mixtures": mixtures(every.values()),
        "left out": left_out_nodes(folder),
        "damaged": [str(error) for error in damaged],
        "errors": {
            run: row["error"] or "" for run, row in sorted(every.items()) if row["status"] == "failed"
        },
        "left": {
            "trials": sum(cell.most - cell.ended for cell in cells),
            "confirming runs": sum(cell.to_confirm - cell.confirmed for cell in cells),
        },
        "runs per minute": pace,
        "seconds left": 60 * left * len(rows) / (pace * done) if known and pace else None,
    }


def show(folder: Path, room: int = 100) -> list[RenderableType]:
    """Return what `status` prints, `room` characters wide."""
    state = status(folder)
    training = [RunProgress(**run) for run in state["running"]]
    study = read_study(folder) or StudyRecord()
    split = "test rows" if study.protocol.split == "test" else "validation rows"
    out: list[RenderableType] = [meaning_of_best(study.objective[0], split)] if state["best"] else []
    out.append(cell_table([CellProgress(**cell) for cell in state["cells"]], room))
    out += run_lines(training, room)
    left = [f"{count} {name} left" for name, count in state["left"].items() if count]
    doing = "working now" if state["active"] else ("not working" if left else "finished")
    parts = [
        f"{state['folder']}: {doing}",
        *(f"{plural(n, 'run')} {name}" for name, n in state["runs"].items() if n),
    ]
    parts += left
    if state["runs per minute"] and left:
        parts.append(f"{state['runs per minute']:.1f} runs/min")
    if state["seconds left"]:
        parts.append(f"about {clock(state['seconds left'])} left")
    out.append(", ".join(parts))
    out.append(f"protocol: {state['protocol']}, {state['causal']}")
    if state["label"]:
        out.append(state["label"])
    runs = ", ".join(f"{plural(count, 'run')} {name}" for name, count in state["evaluation"].items() if count)
    out.append(f"test set: {told(state['openings'])}" + (f"; evaluation: {runs}" if runs else ""))
    out.append("on disk: " + ", ".join(f"{size(n)} of {name}" for name, n in state["bytes"].items() if n))
    if state["best"]:
        out.append(f"best so far: {state['best']['value']:.4f} ({state['best']['cell']})")
    out += state["selected"]
    out += [f"warning: {line}" for line in state["mixtures"]]
    out += state["left out"] + state["damaged"]
    out += [Text(f"failed: {run}: {error}", style="red") for run, error in state["errors"].items()]
    if state["errors"]:
        first = next(iter(state["errors"]))
        out.append(f"full output: cl-search logs {state['folder']} {first}")
    return out


def _selected(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each selection that fresh class orders have confirmed."""
    if not any(row["purpose"] == CONFIRM for row in rows.values()):
        return []
    from analysis import open_results  # pandas is loaded only where there is something to say
    from analysis.selection.in_words import selections_in_words

    return selections_in_words(open_results(folder))


def _best(cells: Sequence[CellProgress], direction: str) -> dict[str, Any] | None:
    known = [(cell.best, cell.cell) for cell in cells if cell.best is not None and not cell.seeks]
    if not known:
        return None
    value, name = (max if direction == "max" else min)(known, key=lambda pair: pair[0])
    return {"cell": name, "value": value}


def _pace(rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return runs per minute over the last half of the ended runs; None when that is not known."""
    ends = sorted(row["ended"] for row in rows.values() if row["ended"])
    recent = ends[len(ends) // 2 :]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    return 60 * (len(recent) - 1) / float(recent[-1] - recent[0])
