"""Forecast of a study's cost before it runs.

Counts are exact where the study decides them: runs, tasks, and shared base tasks that no search changes.
Times and bytes come from a short probe of each label. Early stopping and CHF's attempts cannot be predicted,
so for them the forecast is an upper bound.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.lake.run_folder import PLAN
from analysis.lake.spending import QUANTITIES
from cl_core.aside import aside
from cl_core.errors import BadRequest
from search.backends.allocation import Allocation, random_search_notes
from search.cost.dry_run import TaskCount, rehearse
from search.cost.evaluation_cost import counts
from search.cost.preview import base_tasks, likely_trials
from search.cost.probe import Pace, probe
from search.lake.writer import study_schemas
from search.preparation.prepared import Prepared
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy

DRAWN = 4  # trials of a cell whose image-steps are counted, the first included
PROBE = 40.0  # seconds


@dataclass(frozen=True)
class CellForecast:
    """The cost of one cell. Seconds are those of one worker, by each of the two probes."""

    cell: str
    trials: int
    runs: int
    tasks: int  # of all runs, shared ones included
    base_tasks: int  # to train, without those of earlier cells and existing ones
    seconds: tuple[float, float]
    longest_run: float
    checkpoint_bytes: int
    resume_bytes: int
    table_bytes: int
    kept_bytes: int  # by the method at the end of a run: exemplars, prototypes; no networks
    confirmation_runs: int = 0  # of `runs`, at most
    evaluation_runs: int = 0  # of `evaluate` at most, as the default may be selected
    evaluation_seconds: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """The cost of a study, cell by cell and in all."""

    study: str
    identity: str
    concurrent: int
    gpu: float  # of one run
    share: bool
    cells: tuple[CellForecast, ...]
    notes: tuple[str, ...] = ()
    written: str = ""
    probe_seconds: float = field(default=0.0)
    most_checkpoint_bytes: int | None = None  # storage.checkpoint_bytes

    @property
    def total(self) -> dict[str, float | None]:
        """Return the quantities of `analysis.lake.spending`."""
        runs, tasks = (sum(getattr(c, name) for c in self.cells) for name in ("runs", "tasks"))
        first = sum(c.base_tasks for c in self.cells)
        hours = float(np.mean(self.hours))
        longest = max((c.longest_run for c in self.cells), default=0.0) / 3600
        stored = sum(c.checkpoint_bytes for c in self.cells)
        out: dict[str, float | None] = dict.fromkeys(QUANTITIES)
        return out | {
            "runs": runs,
            "tasks_trained": tasks - runs + first,
            "tasks_shared": runs - first,
            "tasks_saved": None,
            "hours": hours,
            "wall_hours": max(hours / min(self.concurrent, max(1, runs)), longest),
            "gpu_hours": hours * self.gpu if self.gpu else None,
            "checkpoint_bytes": min(stored, self.most_checkpoint_bytes or stored),
            "table_bytes": sum(c.table_bytes for c in self.cells),
        }

    @property
    def hours(self) -> tuple[float, float]:
        """Return the hours of one worker by each of the two probes, the shorter first."""
        low, high = sorted(sum(c.seconds[k] for c in self.cells) / 3600 for k in (0, 1))
        return low, high

    @property
    def saved(self) -> float:
        """Return the share of task trainings that shared base tasks save."""
        tasks = sum(c.tasks for c in self.cells)
        shared = self.total["tasks_shared"] or 0
        return shared / tasks if tasks else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "total": self.total, "hours": list(self.hours), "saved": self.saved}


def check_seconds(seconds: float) -> None:
    """Raise BadRequest unless probes can last `seconds` in all."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadRequest(f"--probe-seconds must be above 0, not {seconds:g}: 40 is usual")


def forecast(
    prepared: Prepared, seconds: float = PROBE, say: Callable[[str], None] = lambda line: None
) -> Forecast:
    """Forecast the cost of the study here. Its probes last about `seconds` in all, or a few steps each.

    Raises BadRequest before any work, RunError where a probe fails.
    """
    study = prepared.study
    check_seconds(seconds)
    began = time.monotonic()
    paces: dict[str, tuple[Pace, Pace]] = {}
    known: set[str] = set()
    cells = []
    for cell in study.cells:
        if cell.label not in paces:
            say(f"probing {cell.label} ...")
            paces[cell.label] = _probe(study, cell, seconds / len(study.study.methods))
        cells.append(_cell(prepared, cell, paces[cell.label], known))
    return Forecast(
        study=study.name,
        identity=study.identity,
        concurrent=prepared.allocation.concurrent,
        gpu=prepared.allocation.gpu,
        share=study.study.storage.share,
        cells=tuple(cells),
        notes=(
            *_notes(study, prepared.allocation, paces),
            *random_search_notes(study, prepared.allocation.concurrent),
        ),
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        probe_seconds=round(time.monotonic() - began, 1),
        most_checkpoint_bytes=study.study.storage.checkpoint_bytes,
    )


def write(plan: Forecast, folder: Path) -> Path:
    """Write the forecast into a run folder. Raises BadRequest."""
    path = folder / PLAN
    try:
        with aside(path) as hidden:
            hidden.write_text(json.dumps(plan.to_dict(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"cannot write {path}: {error.strerror or error}; name another --out") from error
    return path


def _probe(study: ResolvedStudy, cell: Cell, seconds: float) -> tuple[Pace, Pace]:
    spec = study.run_specs(cell, 0, likely_trials(study, cell, 1)[0])[0]
    return probe(spec, study.data, study_schemas(study.methods), seconds)


def _cell(prepared: Prepared, cell: Cell, paces: tuple[Pace, Pace], known: set[str]) -> CellForecast:
    study = prepared.study
    order, seed = study.runs(cell)[0]
    runs = study.most_runs(cell)
    drawn = likely_trials(study, cell, min(cell.budget, DRAWN))
    counted = [rehearse(study.configuration(cell, config, order, seed), study.data) for config in drawn]
    first = base_tasks(study, cell, prepared.checkpoints, known) if study.study.storage.share else runs
    by_pace = [np.array([_seconds(pace, counts) for counts in counted]) for pace in paces]
    reused = cell.reused * cell.budget * len(study.runs(cell))  # at most; they train nothing
    seconds = [own.mean(axis=0) @ (first, runs, reused) for own in by_pace]
    pace = paces[0]
    held = study.data.shape
    seen = sum(cell.sizes[: cell.tasks])
    kept = [counts[-1].exemplars * math.prod(held) + pace.kept_bytes * seen for counts in counted]
    protocol = study.study.protocol
    splits = 2 if protocol.opens_test and protocol.held_out else 1  # validation rows are measured as well
    a_run = float(np.mean([own[:, :2].sum(axis=1).mean() for own in by_pace]))
    tables = [_table_bytes(pace, counts, cell, splits) for counts in counted]
    same = cell.budget == 1 and not cell.adapted.searched
    final, reference = (0, 0) if cell.seeks or protocol.select_on == "fixed" else counts(study, same)
    whole = len(cell.sizes) / cell.tasks / (1 - protocol.held_out)
    return CellForecast(
        evaluation_runs=final + reference,
        evaluation_seconds=a_run * whole * (final + reference * (1 - protocol.held_out)),
        cell=cell.name,
        trials=cell.budget,
        runs=runs,
        confirmation_runs=cell.confirmation_runs,
        tasks=runs * cell.tasks,
        base_tasks=first,
        seconds=(float(seconds[0]), float(seconds[1])),
        longest_run=float(max(own[:, :2].sum(axis=1).max() for own in by_pace)),
        checkpoint_bytes=pace.checkpoint_bytes * first if study.study.storage.share else 0,
        resume_bytes=pace.resume_bytes,
        table_bytes=round((runs + reused) * np.mean(tables)),
        kept_bytes=round(np.mean(kept)),
    )


def _seconds(pace: Pace, counts: Sequence[TaskCount]) -> tuple[float, float, float]:
    """Return the seconds of the shared part of the base task, of the rest of a run, and of a reused run."""
    base = (counts[0].images - counts[0].own) * pace.image[0]
    later = counts[0].own * pace.image[0] + sum(count.images for count in counts[1:]) * pace.image[1]
    passed = sum(count.forwards + count.evaluated for count in counts)
    reused = passed * pace.forward + len(counts) * pace.task + pace.run
    return base, later + reused, reused


def _table_bytes(pace: Pace, counts: Sequence[TaskCount], cell: Cell, splits: int) -> float:
    """Return the bytes of one run's rows, an upper bound: long files compress better than the probe's."""
    seen = np.cumsum(cell.sizes[: cell.tasks])
    pairs = np.minimum(splits * seen**2, [count.evaluated for count in counts]).sum()
    rows = {
        "tasks": len(counts),
        "phases": sum(count.epochs * pace.terms[min(k, 1)] for k, count in enumerate(counts)),
        "classes": splits * int(seen.sum()) * pace.classifiers,
        "confusion": int(pairs) * pace.classifiers,
    }
    return pace.run_bytes + sum(pace.row_bytes[table] * n for table, n in rows.items())


def _notes(study: ResolvedStudy, resources: Allocation, paces: Mapping[str, tuple[Pace, Pace]]) -> list[str]:
    """Return notes on how reliable the figures are."""
    apart = max(
        (
            abs(a.image[k] - b.image[k]) / max(a.image[k], b.image[k])
            for a, b in paces.values()
            for k in (0, 1)
        ),
        default=0.0,
    )
    out = [f"the two probes of a label differ by {apart:.0%} in the time of an image-step at most"]
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 1.5 * resources.machine_cpus:
        out.append(
            f"this machine is busy (load {load:.0f} on {resources.machine_cpus} CPUs): plan again "
            "when it is idle"
        )
    if resources.concurrent > 1:
        out.append(
            f"a run was probed alone: {resources.concurrent} at a time share memory and "
            f"{'GPUs' if resources.gpu else 'caches'} and take longer, and starting workers is not counted"
        )
    if reused := sum(cell.reused * cell.budget for cell in study.cells):
        out.append(f"search.reuse adds {reused} trials at most, which train nothing: evaluation is counted")
    if study.study.search.stopper != "none":
        out.append(
            f"savings of search.stopper {study.study.search.stopper} are not predicted: an upper bound"
        )
    if (chf := study.study.protocol.chf) is not None:
        rates = len(chf.factors)
        out.append(
            f"chf learns a task with {rates} learning rates and up to {chf.attempts} times more: all of them "
            "are counted, so this is an upper bound"
        )
    if (adaptive := study.study.protocol.adaptive) is not None:
        out.append(
            f"adaptive trains each task after the first {adaptive.attempts} times, as a fixed search of "
            f"{adaptive.attempts} trials with a shared base task does; attempts count as with default values"
        )
    costly = sorted(
        {
            p.name
            for cell in study.cells
            for p in cell.space.searched
            if p.name.endswith((".epochs", ".batch", ".net")) or p.name.startswith("hp.exemplars")
        }
    )
    if costly:
        out.append(
            f"{', '.join(costly)} decides the cost and is searched: the forecast takes the mean of a "
            "few random trials"
        )
    limits = study.study.budget
    if limits.gpu_hours or limits.wall or limits.until:
        out.append("the study's budget may end it earlier")
    return out
