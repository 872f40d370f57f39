"""What a crash or a bad disk leaves in a run's folder, and what the next command does about it.

Nothing is thrown away that was damaged: it is set aside in the folder `damaged/`. The runs that it belonged
to are trained again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc

from analysis.lake.checksums import Damaged, read_sealed
from cl_core.aside import sweep
from cl_core.records import TABLES
from search.lake.writer import (
    ASIDE,
    GATHERED,
    SCHEMA,
    file_of,
    own_files,
    recorded,
    tables_of,
    while_gathering,
    without,
)

DAMAGED = "damaged"


def mend_folder(folder: Path, *others: Path) -> list[str]:
    """Make a run's folder whole: remove what a killed process was writing aside there, and in `others`; set
    aside the files of trials of which one is damaged or gone. Returns a line for each.

    The caller holds the run's lock. Raises Damaged where a gathered file is: it holds many runs.
    """
    lines = []
    if tables_of(folder).is_dir():
        with while_gathering(folder):  # a `gather` that works now writes aside as well
            lines = _mend_tables(folder)
            sweep(tables_of(folder) / ASIDE, older=0.0)
    for place in (folder, folder / "checkpoints", *others):
        sweep(place)  # another process may write here
    return lines


def set_aside(folder: Path, path: Path) -> Path:
    """Move a damaged file of a run into its folder `damaged/`, beside what lies there; returns its place."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    target, number = folder / DAMAGED / inside, 1
    while target.exists():
        number += 1
        target = target.with_name(f"{inside.name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    return target


def _mend_tables(folder: Path) -> list[str]:
    places = {table: tables_of(folder) / table for table in TABLES}
    lines: list[str] = []
    bad: set[str] = set()  # names of files, without ending
    merged: dict[str, dict[str, str]] = {}  # table -> name of the file that a trial had -> trial
    for table, place in places.items():
        for path in sorted(own_files(place)):
            if (error := _trouble(path)) is not None:
                bad.add(path.stem)
                lines.append(
                    f"{path} was damaged ({error.reason}): it lies in {folder / DAMAGED} now, and its run is "
                    "trained again"
                )
        if _trouble(place / SCHEMA) is not None:
            (place / SCHEMA).unlink()  # `start_tables` writes it again
        with contextlib.suppress(FileNotFoundError):
            trials = pc.unique(read_sealed(place / GATHERED, columns=["run"])["run"]).to_pylist()
            merged[table] = {file_of(trial): trial for trial in trials}
    rows = recorded(folder, damaged=lambda error: None)
    ended = {file_of(trial) for trial, row in rows.items() if row["status"] != "failed"} - bad
    for table, place in places.items():
        held = {path.stem for path in own_files(place)} | set(merged.get(table, ()))
        lost = sorted(ended - held)
        lines += [f"{name} has lost its rows of {table}: it is trained again" for name in lost]
        bad.update(lost)
    _drop(folder, bad, merged)
    return lines


def _drop(folder: Path, names: Iterable[str], merged: dict[str, dict[str, str]]) -> None:
    for table in TABLES:
        for name in names:
            path = tables_of(folder) / table / f"{name}.parquet"
            if path.exists():
                set_aside(folder, path)
        lost = [trial for name, trial in merged.get(table, {}).items() if name in names]
        if lost:
            without(folder, table, lost)


def _trouble(path: Path) -> Damaged | None:
    """What is wrong with a file; a file that is not there, or was removed just now, is not damaged."""
    try:
        read_sealed(path)
    except FileNotFoundError:
        pass
    except Damaged as error:
        return error
    return None
