"""The audit: a mark in the row of a run that would have been stopped and continued as a check.

The worker that writes the row does not know what the driver decided. So the driver adds the mark after the
run has ended, or when the folder is opened again after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.lake.checksums import read_sealed
from analysis.lake.run_folder import SCHEMA, table_folder
from search.lake.writer import drop_gathered, read_rows, write_rows


def mark(folder: Path, run: str, task: int, row: Mapping[str, Any] | None = None) -> None:
    """Write into the row of an ended run after which task the stopper would have ended it.

    `row` is the run's row if it is known, which may come from a merged file: it leaves that file, so that no
    reader finds it twice. Otherwise it is read from the run's own file, and no other file is opened.
    """
    known = row
    row = row or next(iter(read_rows(folder, "runs", run)), None)
    path = table_folder(folder, "runs") / SCHEMA
    if row is None or row["audited_after"] == task or not path.exists():
        return
    write_rows(folder, "runs", run, [{**row, "audited_after": task}], read_sealed(path).schema)
    if known is not None:
        drop_gathered(folder, "runs", [run])
