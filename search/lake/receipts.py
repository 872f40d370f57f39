"""Receipts: what a worker wrote of a run, for the driver to compare with what it finds itself."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from cl_core.records import TABLES
from search.lake.writer import read_rows, run_files

Receipt = Mapping[str, tuple[int, int]]  # table -> rows of the run, CRC-32 of its file
ARRIVAL = 5.0  # seconds until a file that another machine wrote must be there


def receipt(folder: Path, run: str) -> dict[str, tuple[int, int]]:
    """Return the receipt of a run's files as this machine sees them."""
    out = {}
    for table in TABLES:
        for path in reversed(run_files(folder, table, run)):  # rows of a run that goes on come first
            try:
                content = path.read_bytes()
                out[table] = pq.ParquetFile(path).metadata.num_rows, zlib.crc32(content)
                break
            except (OSError, ValueError):  # not there, or damaged: then the receipts differ
                continue
    return out


def lost_rows(folder: Path, run: str, given: Receipt, patience: float = ARRIVAL) -> list[str]:
    """Return the tables whose rows did not reach `folder` as their writer gave them, after some patience."""
    end = time.monotonic() + patience
    while True:
        found = receipt(folder, run)
        lost = [t for t in given if found.get(t) != given[t] and not _merged(folder, t, run, given[t][0])]
        if not lost or time.monotonic() >= end:
            return lost
        time.sleep(0.2)


def _merged(folder: Path, table: str, run: str, rows: int) -> bool:
    """Tell whether a `gather` has merged the rows of a run meanwhile."""
    if any(path.exists() and not path.is_symlink() for path in run_files(folder, table, run)):
        return False
    return len(read_rows(folder, table, run, merged=True)) == rows
