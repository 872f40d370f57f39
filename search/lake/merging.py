"""Put a file of many runs in the place of the files that it replaces, in one step for every reader.

The files are first replaced, one by one, by links to themselves that lead over one further link, `now`. It is
then turned from the folder `old`, with these files, to `new`, with the merged file and empty other ones.
So whoever reads the folder of a table finds each row once, whenever a merge is killed; `settle` ends it or
takes it back. Where links cannot be made, the merged file comes first and the others go then. A merge that is
killed there leaves rows twice for readers that do not know `analysis.lake.tables`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from analysis.lake.run_folder import GATHER_LOCK, MERGING, SCHEMA, table_folder, tables_of
from cl_core.records import TABLES

OLD, NEW, NOW = "old", "new", "now"


def workplace(place: Path) -> Path:
    """Return the folder in which a table's files are merged."""
    return place.parent / MERGING / place.name


def merged_file(place: Path) -> Path:
    """Return the path at which a merged file waits for `put`."""
    return place.parent / MERGING / f"{place.name}.parquet"


def put(place: Path, name: str, parts: Sequence[Path]) -> None:
    """Move the `merged_file` into a table's folder as `name`, in place of `parts` and of an older `name`.

    The caller holds the lock of merging and has settled an earlier merge. Raises OSError.
    """
    work, merged = workplace(place), merged_file(place)
    names = [name, *(path.name for path in parts if path.name != name)]
    try:
        _prepare(work, place, merged, names)
    except OSError:  # a file system without links
        shutil.rmtree(work, ignore_errors=True)
        merged.replace(place / name)
        for path in names[1:]:
            (place / path).unlink(missing_ok=True)
        return
    for one in names:
        _link(Path("..", MERGING, place.name, NOW, one), place / one, work)
    _link(Path(NEW), work / NOW, work)
    settle(place)


def settle(place: Path) -> None:
    """End a merge of a table that was killed, or take it back. The caller holds the lock of merging."""
    work = workplace(place)
    merged_file(place).unlink(missing_ok=True)
    if not work.is_dir():
        return
    state = (work / NOW).readlink() if (work / NOW).is_symlink() else None
    for kept in sorted((work / state).iterdir()) if state is not None else ():
        if (place / kept.name).is_symlink() and not kept.is_symlink():
            kept.replace(place / kept.name)
    for link in place.glob("*.parquet"):
        if link.is_symlink():
            link.unlink()
    shutil.rmtree(work)


def while_gathering(folder: Path) -> FileLock:
    """Return the lock under which files are merged."""
    return FileLock(tables_of(folder) / GATHER_LOCK)


def settle_tables(folder: Path) -> None:
    """End or take back merges that were killed. The caller holds `while_gathering`."""
    for table in TABLES:
        settle(table_folder(folder, table))


def _prepare(work: Path, place: Path, merged: Path, names: Sequence[str]) -> None:
    """Make `old`, `new` and `now`, which no reader sees yet."""
    empty = Path("..", "..", "..", place.name, SCHEMA)
    for folder in (OLD, NEW):
        (work / folder).mkdir(parents=True)
    for one in names:
        if (place / one).exists():
            (work / OLD / one).hardlink_to(place / one)
        else:
            (work / OLD / one).symlink_to(empty)
        if one != names[0]:
            (work / NEW / one).symlink_to(empty)
    (work / NOW).symlink_to(OLD)
    merged.rename(work / NEW / names[0])


def _link(target: Path, path: Path, work: Path) -> None:
    """Put a link in the place of a file or of another link."""
    hidden = work / ".link"
    hidden.symlink_to(target)
    hidden.replace(path)
