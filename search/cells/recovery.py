"""What the tables say where the studies do not know it: configurations, and what runs reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_core.metrics import summary
from search.cells.warm_start import config_of
from search.lake.rows import primary_confusions
from search.lake.writer import read_rows
from search.worker.runner import INCREMENTS
from spaces.resolved.cell import Cell
from spaces.resolved.study import ResolvedStudy
from spaces.space.space import Values


def configurations(
    study: ResolvedStudy, cell: Cell, rows: Iterable[Mapping[str, Any]], first: int
) -> dict[int, Values | None]:
    """The configurations of a cell, from number `first`, that have rows in the `trials` table, by number.

    None where no row gives the very configuration that its digest is of.
    """
    found: dict[int, Values | None] = {}
    for row in rows:
        number = row["trial"]
        if row["cell"] == cell.name and row["purpose"] == "search" and number >= first:
            found[number] = found.get(number) or config_of(study, cell, row)
    return found


def increments_of(folder: Path, row: Mapping[str, Any], sizes: Sequence[int]) -> list[float | None]:
    """The accuracy over the increments after each task; empty where the run's rows are gone.

    `row` is the run's own of the `trials` table, `sizes` are the classes of each task.
    """
    rows = {table: read_rows(folder, table, row["run"], merged=True) for table in ("tasks", "confusion")}
    confusions = primary_confusions(rows, tuple(sizes), str(row["split"]))
    return [summary(confusions[: t + 1], sizes[: t + 1])[INCREMENTS] for t in range(len(confusions))]
