"""The cost of a study, from its tables and its folder, and its forecast in plan.json.

Both count the search alone: runs of `evaluate` are left out, but for their bytes
and GPU-hours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.lake.amounts import size
from analysis.lake.results import Results
from analysis.lake.run_folder import CHECKPOINTS, PLAN, SPENT, bytes_below, tables_of
from cl_core.errors import BadRequest
from cl_core.records import CONFIRM, REUSED, SEARCHING

QUANTITIES: dict[str, str] = {
    "runs": "runs",
    "tasks_trained": "tasks trained",
    "tasks_shared": "tasks taken from a run that trained alike",
    "tasks_saved": "tasks that stopped runs left out",
    "hours": "time of one worker",
    "wall_hours": "time by the clock",
    "gpu_hours": "GPU-hours",
    "checkpoint_bytes": "bytes of checkpoints",
    "table_bytes": "bytes of tables",
}
"""The quantities that a forecast predicts and a study spends, each with its title."""
HOURS = tuple(title for name, title in QUANTITIES.items() if name.endswith("hours"))


def planned(folder: Path) -> dict[str, Any] | None:
    """Read plan.json; None where there is none. Raises BadRequest when it is damaged."""
    path = folder / PLAN
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadRequest(f"cannot read {path}: {error}; remove it, or plan again") from error
    total = value.get("total") if isinstance(value, dict) else None
    if not isinstance(total, dict) or not all(
        isinstance(total.get(name), int | float) and not isinstance(total.get(name), bool)
        for name in QUANTITIES
        if total.get(name) is not None
    ):
        raise BadRequest(f"{path} is no plan, or is damaged: remove it, or plan again")
    return dict(value)


def spent(results: Results) -> dict[str, float | None]:
    """Every quantity of QUANTITIES for what has ended so far; None where it is not known.

    A first task that nobody of the run trained itself was trained once for all that share it. A stopped run's
    worker writes no time of its own, so its training seconds stand for it. Reused runs of the search are not
    counted as runs, but their time is.
    """
    runs = results.runs[results.runs["purpose"].isin(SEARCHING)]
    tasks = results.tasks[results.tasks["run"].isin(runs["run"])]
    first, later = tasks[tasks["task"] == 0], tasks[tasks["task"] > 0]
    reused = int(later["shared"].astype(bool).sum())
    own = first[~first["shared"].astype(bool)]
    others = first[~first["checkpoint"].isin(own["checkpoint"])].drop_duplicates(
        "checkpoint"
    )  # trained by nobody's run
    trained = tasks.assign(worked=tasks["seconds"].where(~tasks["shared"].astype(bool), 0.0))
    by_run = runs["run"].map(trained.groupby("run")["worked"].sum())
    hours = (runs["wall_seconds"].fillna(by_run).sum() + others["seconds"].sum()) / 3600
    known = runs.dropna(subset=["ended"])
    begun = known["started"].dropna()
    wall = (known["ended"].max() - begun.min()) / 3600 if len(begun) else None
    gpu = _gpu_hours(results.folder)
    return {
        "runs": int(((runs["trial"] < REUSED) | (runs["purpose"] == CONFIRM)).sum()),
        "tasks_trained": len(later) - reused + len(own) + len(others),
        "tasks_shared": reused + len(first) - len(own) - len(others),
        "tasks_saved": int(_saved(runs)),
        "hours": float(hours),
        "wall_hours": None if wall is None or pd.isna(wall) else float(wall),
        "gpu_hours": gpu,
        "checkpoint_bytes": bytes_below(results.folder / CHECKPOINTS),
        "table_bytes": bytes_below(tables_of(results.folder)),
    }


def against(plan: Mapping[str, Any], now: Mapping[str, float | None]) -> pd.DataFrame:
    """quantity, planned, spent and spent over planned, of what both know."""
    rows = []
    for name, title in QUANTITIES.items():
        foreseen, used = plan["total"].get(name), now.get(name)
        if foreseen is None and not used:
            continue
        ratio = used / foreseen if foreseen and used is not None else None
        rows.append({"quantity": title, "planned": foreseen, "spent": used, "spent / planned": ratio})
    return pd.DataFrame(rows, columns=["quantity", "planned", "spent", "spent / planned"])


def in_words(title: str, value: float | None) -> str:
    """A value of a quantity for a reader: 45 s, 3.2 h, 5.7 MB or 1,204; a dash where it is not known."""
    if value is None or value != value:
        return "–"
    if title in HOURS:
        seconds = 3600 * value
        return f"{seconds:.3g} s" if seconds < 120 else f"{value:.2g} h" if value < 10 else f"{value:,.0f} h"
    if title.startswith("bytes"):
        return size(value)
    return f"{value:,.0f}"


def _saved(runs: pd.DataFrame) -> float:
    stopped = runs[(runs["status"] == "stopped") & (runs["trial"] < REUSED)]
    return float((stopped["tasks"] - stopped["tasks_done"]).sum())


def _gpu_hours(folder: Path) -> float | None:
    """Of what the run has metered; None where no run held a GPU."""
    try:
        return float(json.loads((folder / SPENT).read_text(encoding="utf-8"))["gpu_seconds"]) / 3600
    except (OSError, ValueError, KeyError, TypeError):
        return None
