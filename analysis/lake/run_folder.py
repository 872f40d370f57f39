"""Names inside a run folder: every file and folder that a study leaves, in one place.

Nothing here reads, writes or loads a library.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

STUDY = "study.yaml"  # the study as it was resolved
CODE = "code.json"  # the code that its runs were begun with
PLAN = "plan.json"  # the forecast of `cl-search plan`
PACKING = "packing.json"  # the number of runs that share a GPU, found by a probe
SPENT = "spent.json"  # GPU-seconds so far
CONTROL = "control.json"  # paused cells and priorities
NODES = "nodes.json"  # nodes that the last command left out
LEDGER = "ledger.jsonl"  # openings of the test set
REPORT = "report.html"
JOURNAL = "optuna.journal"
SQLITE_FILE = "optuna.sqlite3"
ENDS = "ends.txt"  # while running work has to end: when it is given up
LOCK = ".lock"  # held by the command that works in the folder
CHECKPOINTS = "checkpoints"
RESUME = "checkpoints/resume"  # of runs that have not ended
REUSE = "checkpoints/reuse"  # of later tasks that several runs train alike
LOGS = "logs"
PICTURES = "pictures"  # contact sheets of images that methods have made
SHEETS = "pictures/sheets.json"  # the list of them, in the order in which they were drawn
TRACKING = "tracking"  # what `cl-search track` writes for other tools
PROGRESS = "progress"  # small files of runs that train now
COPY_OF = ".store.json"  # in a copy of an object store: its URL, and what both had when they were compared
DAMAGED = "damaged"  # files set aside by a repair
TABLES_FOLDER = "tables"

# Inside `tables/`: one folder a table with these files beside the runs' own, and two folders for the writer.
SCHEMA = "schema.parquet"  # no rows, every column
GATHERED = "gathered.parquet"  # runs that `gather` merged
_SEGMENT = re.compile(r"gathered\.([0-9]{6,})\.parquet")  # some runs, merged while the study ran
ASIDE = ".aside"  # files that are being written
RUNNING = ".running"  # rows of runs that have not ended
MERGING = ".merging"  # files that a merge is replacing: see `search.lake.merging`
GATHER_LOCK = ".gather.lock"


def file_stem(run: str) -> str:
    """Return the file name of a run, without ending. No part of a run's name makes a folder."""
    return run.replace("/", "--").replace(":", "-")


def log_file(folder: Path, run: str) -> Path:
    """Return the path of a run's log."""
    return folder / LOGS / f"{file_stem(run)}.log"


def tables_of(folder: Path) -> Path:
    """Return the folder of a run folder's tables."""
    return folder / TABLES_FOLDER


def table_folder(folder: Path, table: str) -> Path:
    """Return the folder that holds the files of one table."""
    return folder / TABLES_FOLDER / table


def run_file(folder: Path, table: str, run: str) -> Path:
    """Return the path of a table's file for one run that has ended."""
    return table_folder(folder, table) / f"{file_stem(run)}.parquet"


def own_files(place: Path) -> list[Path]:
    """List the files of single runs in the folder of a table; links, which a merge makes, are followed."""
    try:
        with os.scandir(place) as found:
            names = sorted((item.name, item.is_symlink()) for item in found)
    except FileNotFoundError:
        return []
    paths = [place / name if not link else (place / name).resolve() for name, link in names if _is_own(name)]
    return [path for path in paths if path.name != SCHEMA]


def merged_files(place: Path) -> list[Path]:
    """List the files of many runs in the folder of a table, the newest first; links are followed.

    Of a run in several files, its own one counts, then the newest. A reader opens them in this order, and
    after the runs' own: whatever is merged meanwhile, it finds every run.
    """
    segments = sorted(place.glob("gathered.*.parquet"), reverse=True)
    paths = [*filter(is_merged, segments), *filter(Path.exists, [place / GATHERED])]
    found = [path.resolve() if path.is_symlink() else path for path in paths]
    return [path for path in found if path.name != SCHEMA]


def _is_own(name: str) -> bool:
    """Tell whether a file of a table is one of a single run, or a link to one while it is merged."""
    return name.endswith(".parquet") and name[0] != "." and name != SCHEMA and not is_merged(Path(name))


def is_merged(path: Path) -> bool:
    """Tell whether a file of a table holds many runs."""
    return path.name == GATHERED or _SEGMENT.fullmatch(path.name) is not None


def next_segment(folder: Path) -> str:
    """Return a name for the next segment of every table, newer than all there are."""
    found = tables_of(folder).glob("*/gathered.*.parquet")
    numbers = [int(match[1]) for path in found if (match := _SEGMENT.fullmatch(path.name))]
    return f"gathered.{max(numbers, default=0) + 1:06d}.parquet"


def has_runs(folder: Path) -> bool:
    """Tell whether a folder holds the table of a study's runs."""
    return table_folder(folder, "runs").is_dir()


def bytes_below(place: Path) -> int:
    """Return the bytes of all files below a folder; one that is gone meanwhile counts nothing."""
    total = 0
    for path in place.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
