"""Steering: paused cells and priorities, set by `pause`, `resume` and `priority` in the run folder.

A running study looks at the file before each start, and so does the next command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from analysis.lake.run_folder import CONTROL, STUDY
from cl_core.aside import aside
from cl_core.errors import BadRequest, unknown
from spaces.study.study_file import RESOLVED, existing_study


@dataclass(frozen=True)
class Steering:
    """`paused` cells start no new trial. Cells with a higher `priority` go first (default 0)."""

    paused: frozenset[str] = frozenset()
    priority: Mapping[str, int] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the text of the file."""
        return json.dumps({"paused": sorted(self.paused), "priority": dict(sorted(self.priority.items()))})


class SteeringFile:
    """The steering as of now; the file is read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CONTROL
        self._seen: tuple[int, int, int] | None = None
        self._now = read_steering(folder)

    @property
    def now(self) -> Steering:
        """The current steering. While a study runs, a file that cannot be read changes nothing."""
        try:
            stat = self._path.stat()
        except OSError:
            return self._now
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._seen = seen
            try:
                self._now = read_steering(self._path.parent)
            except BadRequest:
                return self._now
        return self._now


def read_steering(folder: Path) -> Steering:
    """Read the steering of a run folder. Raises BadRequest if it is damaged."""
    path = folder / CONTROL
    try:
        plain = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
        paused, priority = plain["paused"], plain["priority"]
        if not isinstance(paused, list) or not all(isinstance(cell, str) for cell in paused):
            raise TypeError
        if not all(type(value) is int for value in priority.values()):
            raise TypeError
        return Steering(frozenset(paused), dict(priority))
    except FileNotFoundError:
        return Steering()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"{path} is damaged ({type(error).__name__}): remove it") from None


def refuse_constant(constant: str) -> float:
    """Refuse Infinity and NaN, which Python's JSON accepts as numbers. Raises ValueError."""
    raise ValueError(f"{constant} is not a number")


def pause(folder: Path, cell: str) -> Steering:
    """Start no new trial of a cell. Running ones finish. Raises BadRequest for an unknown cell."""
    return _change(folder, cell, lambda old: replace(old, paused=old.paused | {cell}))


def resume(folder: Path, cell: str) -> Steering:
    """Let a paused cell continue. Raises BadRequest for an unknown cell."""
    return _change(folder, cell, lambda old: replace(old, paused=old.paused - {cell}))


def prioritise(folder: Path, cell: str, value: int) -> Steering:
    """Put a cell before those of lower priority. Raises BadRequest for an unknown cell."""
    return _change(folder, cell, lambda old: replace(old, priority={**old.priority, cell: value}))


def _change(folder: Path, cell: str, change: Callable[[Steering], Steering]) -> Steering:
    study = existing_study(folder / STUDY) if folder.is_dir() else None
    if study is None or RESOLVED not in study:
        raise BadRequest(
            f"{folder} is not a run folder (it has no study.yaml): give the folder that `cl-search run` named"
        )
    known: list[Any] = study[RESOLVED].get("cells") or []
    names = [str(item.get("name")) for item in known if isinstance(item, Mapping)]
    if cell not in names:
        raise unknown("cell", cell, names)
    with FileLock(str(folder.absolute() / f".{CONTROL}.lock")):
        new = change(read_steering(folder))
        with aside(folder / CONTROL) as hidden:
            hidden.write_text(new.to_text() + "\n", encoding="utf-8")
    return new
