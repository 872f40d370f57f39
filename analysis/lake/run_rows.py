"""The rows of the table `runs` as plain dicts, read without pandas while a study may still write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.lake.checksums import Damaged, read_sealed
from analysis.lake.run_folder import GATHERED, own_files, table_folder


def run_rows(folder: Path, damaged: Callable[[Damaged], None] | None = None) -> dict[str, dict[str, Any]]:
    """Return the row of every run that has ended, by run.

    `damaged` gets the error of each file that is skipped. Raises Damaged where it is not given.
    """
    place = table_folder(folder, "runs")
    own: dict[str, dict[str, Any]] = {}
    merged: dict[str, dict[str, Any]] = {}
    # The gathered file last: a run that is merged meanwhile is in both, and its own file counts.
    for path in [*own_files(place), place / GATHERED]:
        try:
            rows = read_sealed(path).to_pylist()
        except FileNotFoundError:
            continue
        except Damaged as error:
            if damaged is None:
                raise
            damaged(error)
            continue
        (merged if path.name == GATHERED else own).update((row["run"], row) for row in rows)
    return merged | own
