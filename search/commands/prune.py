"""`prune`: remove what a run folder can do without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS, DAMAGED, RESUME, REUSE, STUDY, log_file
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.remote.checkpoint_copies import copies_at
from search.remote.working_copy import working_in


@dataclass(frozen=True)
class Pruned:
    """Files of one kind and their bytes. `kept` says why they stay; it is empty where they go."""

    kind: str
    files: int
    bytes: int
    kept: str = ""


def prune(folder: Path, logs: bool = False, dry_run: bool = False) -> list[Pruned]:
    """Remove damaged files, and the checkpoints of a study that has nothing left to train.

    With `logs` the output of the runs that did not fail goes as well. Tables, studies and report stay. With
    `dry_run` nothing is removed. A store that `storage.checkpoints` names belongs to other studies too, and
    stays. An interrupted evaluation trains its open runs from their first task. Raises BadRequest where there
    is no run folder, or a command works in it.
    """
    if not (folder / STUDY).is_file():
        raise BadRequest(f"{folder} is no run folder of a study: name one such as runs/quickstart")
    with working_in(folder):
        rows = run_rows(folder)
        cells = read_progress(folder, rows)
        left = sum(cell.most - cell.ended for cell in cells)
        to_confirm = sum(cell.to_confirm - cell.confirmed for cell in cells)
        waits = f"{left} trials and {to_confirm} confirming runs are left" if left or to_confirm else ""
        ended = [log_file(folder, run) for run, row in rows.items() if row["status"] != "failed"]
        return [
            _pruned_checkpoints("base checkpoints", folder / CHECKPOINTS, waits, dry_run),
            _pruned_checkpoints("resume checkpoints", folder / RESUME, waits, dry_run),
            _pruned_checkpoints("reuse checkpoints", folder / REUSE, waits, dry_run),
            _pruned("locks of checkpoints", (folder / CHECKPOINTS).rglob("*.lock"), waits, dry_run),
            _pruned("damaged files", _damaged(folder), "", dry_run),
            _pruned("logs of runs", ended, "" if logs else "--logs removes them", dry_run),
        ]


def _damaged(folder: Path) -> list[Path]:
    places = (folder, *(folder / store for store in (CHECKPOINTS, RESUME, REUSE)))
    return [path for place in places for path in (place / DAMAGED).rglob("*") if path.is_file()]


def _pruned_checkpoints(kind: str, place: Path, kept: str, dry_run: bool) -> Pruned:
    """Count checkpoints, and remove them unless they are kept, here and in an object store."""
    here, copies = list(place.glob("*.safetensors")), copies_at(place)
    sizes = {} if copies is None else dict(copies.sizes())
    sizes |= {path.name: path.lstat().st_size for path in here}
    _pruned(kind, here, kept, dry_run)
    if copies is not None and not kept and not dry_run:
        copies.remove(*sizes)
    return Pruned(kind, len(sizes), sum(sizes.values()), kept)


def _pruned(kind: str, files: Iterable[Path], kept: str, dry_run: bool) -> Pruned:
    """Count files of one kind, and remove them unless they are kept."""
    there = [(path, path.lstat().st_size) for path in files if path.is_file()]
    if not kept and not dry_run:
        for path, _ in there:
            path.unlink(missing_ok=True)
    return Pruned(kind, len(there), sum(size for _, size in there), kept)
