"""Which cells are paused, and which go first: what `pause`, `resume` and `priority` set, in a file of the
run's folder that a run at work looks at before each start, and the next one finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from cl_core.aside import aside
from cl_core.errors import BadRequest, unknown
from spaces.study.study_file import RESOLVED, existing_study

CONTROL = "control.json"


@dataclass(frozen=True)
class State:
    """`paused` cells start nothing new; a cell of higher `priority` (0 unless said) is asked first."""

    paused: frozenset[str] = frozenset()
    priority: Mapping[str, int] = field(default_factory=dict)

    def to_text(self) -> str:
        """As the file has it."""
        return json.dumps({"paused": sorted(self.paused), "priority": dict(sorted(self.priority.items()))})


class Control:
    """The state as it stands now; the file is read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CONTROL
        self._seen: tuple[int, int, int] | None = None
        self._state = read(folder)

    @property
    def state(self) -> State:
        """What holds now. A file that cannot be read while a run works leaves what held before."""
        try:
            stat = self._path.stat()
        except OSError:
            return self._state
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._seen = seen
            try:
                self._state = read(self._path.parent)
            except BadRequest:
                return self._state
        return self._state


def read(folder: Path) -> State:
    """What a run's folder says. Raises BadRequest when it is damaged."""
    path = folder / CONTROL
    try:
        plain = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
        paused, priority = plain["paused"], plain["priority"]
        if not isinstance(paused, list) or not all(isinstance(cell, str) for cell in paused):
            raise TypeError
        if not all(type(value) is int for value in priority.values()):
            raise TypeError
        return State(frozenset(paused), dict(priority))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"{path} is damaged ({type(error).__name__}): remove it") from None


def no_number(constant: str) -> float:
    """Refuse Infinity and NaN, which Python's JSON takes for numbers. Raises ValueError."""
    raise ValueError(f"{constant} is no number")


def pause(folder: Path, cell: str) -> State:
    """Start nothing new of a cell. Raises BadRequest where there is no such cell."""
    return _change(folder, cell, lambda state: replace(state, paused=state.paused | {cell}))


def resume(folder: Path, cell: str) -> State:
    """Let a paused cell go on. Raises BadRequest where there is no such cell."""
    return _change(folder, cell, lambda state: replace(state, paused=state.paused - {cell}))


def prioritise(folder: Path, cell: str, value: int) -> State:
    """Ask a cell before those of lower priority. Raises BadRequest where there is no such cell."""
    return _change(folder, cell, lambda state: replace(state, priority={**state.priority, cell: value}))


def _change(folder: Path, cell: str, change: Callable[[State], State]) -> State:
    study = existing_study(folder) if folder.is_dir() else None
    if study is None or RESOLVED not in study:
        raise BadRequest(f"{folder} holds no run (no study.yaml): give the folder that `cl-search run` named")
    known: list[Any] = study[RESOLVED].get("cells") or []
    names = [str(item.get("name")) for item in known if isinstance(item, Mapping)]
    if cell not in names:
        raise unknown("cell", cell, names)
    with FileLock(str(folder.absolute() / f".{CONTROL}.lock")):
        state = change(read(folder))
        with aside(folder / CONTROL) as hidden:
            hidden.write_text(state.to_text() + "\n", encoding="utf-8")
    return state
