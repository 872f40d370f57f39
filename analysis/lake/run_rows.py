"""The rows of the table `runs` as plain dicts, read without pandas while a study may still write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from analysis.lake.checksums import Damaged, read_sealed
from analysis.lake.run_folder import merged_files, own_files, table_folder


def run_rows(
    folder: Path,
    damaged: Callable[[Damaged], None] | None = None,
    columns: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the row of every run that has ended, by run: all columns, or `run` and some.

    `damaged` gets the error of each file that is skipped. Raises Damaged where it is not given.
    """
    wanted = None if columns is None else ["run", *columns]
    place = table_folder(folder, "runs")
    out: dict[str, dict[str, Any]] = {}
    # The merged files last: a run that is merged meanwhile is in both, and its own file counts.
    for path in chain(own_files(place), _later(place)):
        try:
            rows = read_sealed(path, wanted).to_pylist()
        except FileNotFoundError:
            continue
        except Damaged as error:
            if damaged is None:
                raise
            damaged(error)
            continue
        for row in rows:
            out.setdefault(row["run"], row)
    return out


def _later(place: Path) -> Iterator[Path]:
    """Yield the merged files, listed when the first of them is needed."""
    yield from merged_files(place)
