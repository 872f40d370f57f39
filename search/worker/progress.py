"""Progress inside a run: a small file in the run folder while the run trains, which any process may read.

The file is for people alone. It is written once a second at most, removed when the run ends, and a file that
cannot be written or read is passed over.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.lake.run_folder import PROGRESS, file_stem

if TYPE_CHECKING:
    from cl_core.training.events import Event, Watch

_EVERY = 1.0  # seconds between two writes at least


@dataclass(frozen=True)
class RunProgress:
    """The point that a run has reached. Tasks are 0-based; `epoch` counts finished epochs of the phase."""

    run: str
    task: int
    tasks: int
    phase: str
    epoch: int
    epochs: int
    written: float  # Unix time

    @property
    def fraction(self) -> float:
        """The share of the run that is done, if every task takes equally long."""
        return (self.task + self.epoch / max(1, self.epochs)) / max(1, self.tasks)


def progress_file(folder: Path, run: str) -> Path:
    """Return the path of a run's progress file."""
    return folder / PROGRESS / f"{file_stem(run)}.json"


def watch_run(folder: Path, run: str, clock: Callable[[], float] = time.monotonic) -> Watch:
    """Return what the trainer calls with each event: it keeps the progress file of a run up to date."""
    written = -_EVERY

    def watch(event: Event) -> None:
        nonlocal written
        now = clock()
        if now - written < _EVERY:
            return
        written = now
        place = event.task.index, event.tasks, event.phase.name, event.epoch, event.epochs
        write_progress(folder, RunProgress(run, *place, written=time.time()))

    return watch


def write_progress(folder: Path, progress: RunProgress) -> None:
    """Write the progress file of a run. An error of the file system is ignored."""
    path = progress_file(folder, progress.run)
    hidden = path.with_name(f".{path.name}")  # a reader sees a whole file; nothing waits for the disk
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        hidden.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        hidden.replace(path)


def read_progress_files(folder: Path) -> list[RunProgress]:
    """Return the progress of every run that trains now, by name. Files that cannot be read are left out.

    A worker that was killed leaves its file, until the next command that trains here removes it.
    """
    found = []
    for path in sorted((folder / PROGRESS).glob("[!.]*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(RunProgress(**json.loads(path.read_text(encoding="utf-8"))))
    return found


def remove_progress(folder: Path, run: str | None = None) -> None:
    """Remove the progress file of a run, or of all runs. An error of the file system is ignored."""
    paths = (folder / PROGRESS).glob("*") if run is None else [progress_file(folder, run)]
    with contextlib.suppress(OSError):
        for path in paths:
            path.unlink(missing_ok=True)
        (folder / PROGRESS).rmdir()  # fails while other runs have their files there
