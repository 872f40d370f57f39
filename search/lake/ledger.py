"""The ledger: before the test set is opened, a line of `ledger.jsonl` in the run folder says so."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from analysis.lake.run_folder import LEDGER


def note_opening(
    folder: Path,
    what: str,
    study: str,
    cells: Sequence[str],
    runs: int,
    versions: Mapping[str, str],
) -> None:
    """Append one line and sync it to the disk. `study` is the study's identity, `runs` the number planned.

    A line that a crash cut short stays as it is, and the new one begins below it.
    """
    line = json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "what": what,
            "study": study,
            "cells": list(cells),
            "runs": runs,
            "versions": dict(versions),
        }
    )
    path = folder / LEDGER
    with path.open("a+b") as file:
        torn = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(f"{chr(10) if torn else ''}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
