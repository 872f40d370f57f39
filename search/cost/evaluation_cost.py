"""The cost of an evaluation before it starts: its runs, and their time by the runs of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.lake.amounts import clock
from analysis.lake.run_rows import run_rows
from cl_core.records import SEARCHING
from search.preparation.prepared import Prepared
from spaces.resolved.run_spec import RunSpec
from spaces.resolved.study import ResolvedStudy


def counts(study: ResolvedStudy, same: bool) -> tuple[int, int]:
    """Count final and reference runs of a cell; `same` where the published default is selected."""
    protocol, final = study.study.protocol, study.study.final
    orders = 0 if protocol.inside_runs else max(protocol.orders, final.orders)
    return final.orders * final.seeds * (1 if same else 2), orders * final.seeds


def cost(run: Prepared, specs: Sequence[RunSpec], local: bool) -> str:
    """Return a line on `specs`, the runs still to start, and about how long they take."""
    finals = [spec for spec in specs if spec.purpose == "final"]
    parts = []
    if finals:
        parts.append(f"{len(finals)} final (selected trial and default, on {_orders(finals)})")
    if again := [spec for spec in specs if spec.purpose != "final"]:
        parts.append(f"{len(again)} reference (selected trial on the search's split, on {_orders(again)})")
    cells = len({spec.cell for spec in specs})
    line = f"{len(specs)} runs of {cells} cell{'s' if cells != 1 else ''} to train: {', '.join(parts)}"
    whole = seconds(specs, run_rows(run.folder), run.study.study.protocol.validation)
    if whole is None:
        return line
    at_once = 1 if local else min(run.allocation.concurrent, len(specs))
    beside = f", {at_once} at a time {clock(whole / at_once)}" if at_once > 1 else ""
    return f"{line}; about {clock(whole)} on one worker{beside}, by the times of the search"


def seconds(
    specs: Sequence[RunSpec], rows: Mapping[str, Mapping[str, Any]], validation: float
) -> float | None:
    """Return the seconds of training `specs` on one worker; None where a cell has no completed run.

    `rows` are the recorded runs; the search held out the share `validation` of the training rows. A run takes
    as long per training row and task as those of its trial did, else those of its cell.
    """
    known: dict[str, list[tuple[int, float]]] = {}
    for row in rows.values():
        if row["purpose"] in SEARCHING and row["status"] == "completed" and row["seconds"]:
            tasks = 1 + len([size for size in row["increments"].split(",") if size])
            known.setdefault(row["cell"], []).append((row["trial"], row["seconds"] * tasks / row["tasks"]))
    total = 0.0
    for spec in specs:
        beside = known.get(spec.cell, [])
        times = [t for number, t in beside if number == spec.trial] or [t for _, t in beside]
        if not times:
            return None
        total += sum(times) / len(times) * (1 - spec.configuration.validation) / (1 - validation)
    return total


def _orders(specs: Sequence[RunSpec]) -> str:
    orders = list(dict.fromkeys(spec.configuration.class_order or "natural" for spec in specs))
    named = ", ".join(map(str, orders[:5])) + (", ..." if len(orders) > 5 else "")
    seeds = len({spec.configuration.seed for spec in specs})
    return f"class order{'s' if len(orders) > 1 else ''} {named}" + (f", {seeds} seeds" if seeds > 1 else "")
