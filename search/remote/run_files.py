"""The files of one run in an object store, sent by the process that writes them.

In a folder of this machine alone, nothing of this does anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from analysis.lake.run_folder import SCHEMA, log_file, table_folder
from cl_core.records import TABLES
from search.lake.writer import run_files
from search.remote.copies import remote_at


def send_run(folder: Path, run: str) -> None:
    """Send the rows of a run, as they are here. The row that ends it comes after the others.

    Raises StoreError.
    """
    if (remote := remote_at(folder)) is None:
        return
    shown, running = _names(folder, run)
    if not (folder / shown["runs"]).exists():
        remote.give(running.values())
        return
    remote.give(name for table, name in shown.items() if table != "runs")
    remote.give([shown["runs"]])
    remote.store.delete(running.values())


def withdraw_run(folder: Path, run: str, tables: Iterable[str] = tuple(TABLES)) -> None:
    """Remove the files of a run that begins again. Raises StoreError."""
    if (remote := remote_at(folder)) is not None:
        shown, _ = _names(folder, run)
        remote.store.delete([shown[table] for table in tables])


def fetch_run(folder: Path, run: str) -> None:
    """Bring the rows and the log of a run; files that the store does not have go. Raises StoreError."""
    if (remote := remote_at(folder)) is None:
        return
    shown, running = _names(folder, run)
    wanted = [*shown.values(), *running.values(), log_file(folder, run).relative_to(folder).as_posix()]
    found = remote.take(wanted)
    for name in set(wanted) - set(found):
        (folder / name).unlink(missing_ok=True)


def fetch_schemas(folder: Path) -> None:
    """Bring the schemas of the tables. Raises StoreError."""
    if (remote := remote_at(folder)) is not None:
        remote.take((table_folder(folder, table) / SCHEMA).relative_to(folder).as_posix() for table in TABLES)


def send_log(folder: Path, run: str) -> None:
    """Send the log of a run. Raises StoreError."""
    if (remote := remote_at(folder)) is not None:
        remote.give([log_file(folder, run).relative_to(folder).as_posix()])


def _names(folder: Path, run: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of a run's files once it has ended, and before, each by its table."""
    paths = {table: run_files(folder, table, run) for table in TABLES}
    shown = {table: ended.relative_to(folder).as_posix() for table, (ended, _) in paths.items()}
    return shown, {table: open_.relative_to(folder).as_posix() for table, (_, open_) in paths.items()}
