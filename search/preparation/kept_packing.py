"""The number of runs that train together on a GPU, as a run folder keeps it."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.lake.run_folder import PACKING
from cl_core.aside import aside
from cl_core.training.packing import COUNTS, Packing


def keep_packing(folder: Path, label: str, found: Packing) -> None:
    """Write what a probe with runs of `label` found."""
    tried = {
        count: {"images_per_second": round(m.rate, 1), "memory": round(m.memory, 3)}
        for count, m in found.tried.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with aside(folder / PACKING) as hidden:
        text = json.dumps({"runs": found.runs, "label": label, "tried": tried}, indent=1)
        hidden.write_text(text + "\n", encoding="utf-8")


def kept_packing(folder: Path) -> int | None:
    """Return the number of runs that the folder keeps; None where it keeps none that can be read."""
    try:
        runs = json.loads((folder / PACKING).read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return runs if type(runs) is int and runs in COUNTS else None
