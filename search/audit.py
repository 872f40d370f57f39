"""Trials that would have been stopped and ran on as a check: the mark in their row of the `trials` table.

The worker that writes the row does not know what the driver decided, so the driver adds the mark when the run
has ended, or after a crash in between when the folder is opened again.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from search.writer import SCHEMA, recorded, tables_of, write_rows


def mark(folder: Path, trial: str, task: int) -> None:
    """Write into the row of an ended run after which task the stopper would have ended it."""
    row = recorded(folder).get(trial)
    path = tables_of(folder) / "trials" / SCHEMA
    if row is None or row["audited_after"] == task or not path.exists():
        return
    write_rows(folder, "trials", trial, [{**row, "audited_after": task}], pq.read_schema(path))
