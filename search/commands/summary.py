"""The summary that `run` and `evaluate` return: counts, errors and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis import Results, open_results
from analysis.lake.run_folder import REPORT, table_folder
from analysis.report.page import write_report
from cl_core.errors import BadRequest, ClSearchError
from search.commands.outcome import Outcome, next_command, outcome
from search.commands.published import Beside, published


@dataclass(frozen=True)
class Summary:
    """The result of a command. Counts are of runs, over the whole run folder."""

    folder: Path
    completed: int = 0
    stopped: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)  # run -> first line of its error
    worked: bool = False  # False where there was nothing to do
    left: str | None = None  # why something is left to do: the budget is spent, or cells are paused
    report: Path | None = None
    seconds: float = 0.0
    labels: Sequence[str] = ()  # lines that must stand wherever the numbers are shown

    @property
    def failed(self) -> int:
        """Return the number of failed runs."""
        return len(self.failures)

    @property
    def results(self) -> Results:
        """Return the tables."""
        return open_results(self.folder)

    @property
    def outcome(self) -> Outcome | None:
        """Return the table of cells to end with; None where no run has completed."""
        return outcome(self.folder) if self.completed else None

    @property
    def published(self) -> Beside | None:
        """Return the table of published figures; None where the study names none, or no run has completed."""
        return published(self.folder) if self.completed else None

    @property
    def next_command(self) -> str | None:
        """Return the command that comes next; None where something is left to do, or nothing is selected."""
        return None if self.left else next_command(self.folder)


def report_of(folder: Path, worked: bool) -> Path:
    """Return the folder's report, written anew where it is older than the tables."""
    path = folder / REPORT
    if worked or not path.exists() or path.stat().st_mtime < _newest(folder):
        try:
            path = write_report(folder)
        except BadRequest as error:  # the request was fine: only the report is missing
            raise ClSearchError(f"the runs have ended, but the report is not written: {error}") from error
    return path


def _newest(folder: Path) -> float:
    """Return when a run's end was last written: an older report has not seen it."""
    written = table_folder(folder, "runs").glob("[!.]*.parquet")
    return max((path.stat().st_mtime for path in written), default=0.0)
