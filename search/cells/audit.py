"""Trials that would have been stopped and ran on as a check: the mark in their row of the `trials` table.

The worker that writes the row does not know what the driver decided, so the driver adds the mark when the run
has ended, or after a crash in between when the folder is opened again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.lake.checksums import read_sealed
from search.lake.writer import SCHEMA, read_rows, tables_of, write_rows


def mark(folder: Path, trial: str, task: int, row: Mapping[str, Any] | None = None) -> None:
    """Write into the row of an ended run after which task the stopper would have ended it.

    `row` is the run's row where it is known, which may be a merged one; else it is read from the run's own
    file. No other run's file is opened, however many there are.
    """
    row = row or next(iter(read_rows(folder, "runs", trial)), None)
    path = tables_of(folder) / "runs" / SCHEMA
    if row is None or row["audited_after"] == task or not path.exists():
        return
    write_rows(folder, "runs", trial, [{**row, "audited_after": task}], read_sealed(path).schema)
