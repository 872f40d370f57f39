"""What an ended run reported after each task, from its rows, where the studies do not know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_core.metrics import summary
from search.rows import primary_confusions
from search.runner import INCREMENTS
from search.writer import read_rows


def increments_of(folder: Path, row: Mapping[str, Any], sizes: Sequence[int]) -> list[float | None]:
    """The accuracy over the increments after each task; empty where the run's rows are gone.

    `row` is the run's own of the `trials` table, `sizes` are the classes of each task.
    """
    rows = {table: read_rows(folder, table, row["trial"], merged=True) for table in ("stages", "confusion")}
    confusions = primary_confusions(rows, tuple(sizes), str(row["split"]))
    return [summary(confusions[: t + 1], sizes[: t + 1])[INCREMENTS] for t in range(len(confusions))]
