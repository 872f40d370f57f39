"""Repair of a run folder after a crash or on a bad disk.

A damaged file is set aside in the folder `damaged/`, and its runs are trained again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from analysis.lake.checksums import Damaged, check_sealed, runs_in
from analysis.lake.run_folder import (
    ASIDE,
    CHECKPOINTS,
    DAMAGED,
    GATHERED,
    RESUME,
    REUSE,
    SCHEMA,
    file_stem,
    merged_files,
    own_files,
    table_folder,
    tables_of,
)
from analysis.lake.run_rows import run_rows
from cl_core.aside import sweep
from cl_core.records import TABLES
from search.lake.merging import settle_tables, while_gathering
from search.lake.writer import drop_from, drop_gathered


def mend_folder(folder: Path, *others: Path) -> list[str]:
    """Mend a run folder; return a line for each file that was damaged or lost.

    Files of a run are set aside if one of them is damaged or lost. Of a run in several files, the one that
    readers take is kept. Files that a killed process was writing, here and in `others`, are removed. The
    caller holds the lock of the folder. Raises Damaged for a gathered file, which holds many runs.
    """
    lines = []
    if tables_of(folder).is_dir():
        with while_gathering(folder):  # a `gather` that works now writes aside as well
            settle_tables(folder)
            lines = _mend_tables(folder)
            sweep(tables_of(folder) / ASIDE, older=0.0)
    for place in (folder, folder / CHECKPOINTS, folder / RESUME, folder / REUSE, *others):
        sweep(place)  # another process may write here
    return lines


def set_aside(folder: Path, path: Path) -> Path:
    """Move a damaged file into the folder `damaged/`; return its new path. Earlier ones stay."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    target, number = folder / DAMAGED / inside, 1
    while target.exists():
        number += 1
        target = target.with_name(f"{inside.name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    return target


def _mend_tables(folder: Path) -> list[str]:
    places = {table: table_folder(folder, table) for table in TABLES}
    lines: list[str] = []
    bad: set[str] = set()  # names of files, without ending
    merged: dict[str, dict[str, str]] = {}  # table -> name of a run's file -> run, in gathered files
    twice: dict[Path, set[str]] = {}  # merged file -> its runs that another file holds as well
    for table, place in places.items():
        seen: set[str] = set()
        for path in own_files(place):
            seen.add(path.stem)
            if (error := _trouble(path)) is not None:
                bad.add(path.stem)
                lines.append(f"{_told(folder, path, error)}, and its run is trained again")
        if _trouble(place / SCHEMA) is not None:
            (place / SCHEMA).unlink()  # `start_tables` writes it again
        for path in merged_files(place):
            error = _trouble(path)
            if error is None:
                runs = {file_stem(run): run for run in runs_in(path)}
                merged.setdefault(table, {}).update(runs)
                if doubled := {run for name, run in runs.items() if name in seen}:
                    twice[path] = doubled
                seen |= set(runs)
            elif path.name == GATHERED:
                raise error
            else:
                bad.update(_runs_beside(folder, path.name))
                set_aside(folder, path)
                lines.append(f"{_told(folder, path, error)}, and its runs are trained again")
    for path, runs_there in twice.items():  # such as where a store has files still that were merged here
        drop_from(path, runs_there)
    rows = run_rows(folder, damaged=lambda error: None, columns=["status"])
    ended = {file_stem(run) for run, row in rows.items() if row["status"] != "failed"} - bad
    for table, place in places.items():
        held = {path.stem for path in own_files(place)} | set(merged.get(table, ()))
        lost = sorted(ended - held)
        lines += [f"{name} has lost its rows of {table}: it is trained again" for name in lost]
        bad.update(lost)
    _drop(folder, bad, merged)
    return lines


def _told(folder: Path, path: Path, error: Damaged) -> str:
    return f"{path} was damaged ({error.reason}): it is in {folder / DAMAGED} now"


def _runs_beside(folder: Path, segment: str) -> set[str]:
    """Return the names of the files of a damaged segment's runs, as the other tables have them."""
    names: set[str] = set()
    for table in TABLES:
        with contextlib.suppress(FileNotFoundError, Damaged):
            names.update(map(file_stem, runs_in(table_folder(folder, table) / segment)))
    return names


def _drop(folder: Path, names: Iterable[str], merged: dict[str, dict[str, str]]) -> None:
    for table in TABLES:
        for name in names:
            path = table_folder(folder, table) / f"{name}.parquet"
            if path.exists():
                set_aside(folder, path)
        lost = [run for name, run in merged.get(table, {}).items() if name in names]
        if lost:
            drop_gathered(folder, table, lost)


def _trouble(path: Path) -> Damaged | None:
    """Return the damage of a file; None if it is whole or not there."""
    try:
        check_sealed(path)
    except FileNotFoundError:
        pass
    except Damaged as error:
        return error
    return None
