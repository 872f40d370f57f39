"""Names inside a run folder: every file and folder that a study leaves, in one place.

Nothing here reads, writes or loads a library.
"""

from __future__ import annotations

from pathlib import Path

STUDY = "study.yaml"  # the study as it was resolved
CODE = "code.json"  # the code that its runs were begun with
PLAN = "plan.json"  # the forecast of `cl-search plan`
SPENT = "spent.json"  # GPU-seconds so far
CONTROL = "control.json"  # paused cells and priorities
NODES = "nodes.json"  # nodes that the last command left out
LEDGER = "ledger.jsonl"  # openings of the test set
REPORT = "report.html"
JOURNAL = "optuna.journal"
SQLITE_FILE = "optuna.sqlite3"
LOCK = ".lock"  # held by the command that works in the folder
CHECKPOINTS = "checkpoints"
LOGS = "logs"
DAMAGED = "damaged"  # files set aside by a repair
TABLES_FOLDER = "tables"

# Inside `tables/`: one folder a table with these files beside the runs' own, and two folders for the writer.
SCHEMA = "schema.parquet"  # no rows, every column
GATHERED = "gathered.parquet"  # runs that `gather` merged
ASIDE = ".aside"  # files that are being written
RUNNING = ".running"  # rows of runs that have not ended
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
    """List the files of single runs in the folder of a table."""
    return [path for path in sorted(place.glob("[!.]*.parquet")) if path.name not in (GATHERED, SCHEMA)]


def has_runs(folder: Path) -> bool:
    """Tell whether a folder holds the table of a study's runs."""
    return table_folder(folder, "runs").is_dir()
