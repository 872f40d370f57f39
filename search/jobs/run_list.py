"""A list of runs: which are pending, open or ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spaces.resolved.run_spec import RunSpec


class RunList:
    """The runs of an evaluation or of a confirmation, in order, each handed out once.

    `rows` are the rows of the table `runs` when the command began. A run with a row there has ended. With
    `retry_failed`, failed runs are handed out again.
    """

    def __init__(
        self, specs: Iterable[RunSpec], rows: Mapping[str, Mapping[str, Any]], retry_failed: bool = False
    ) -> None:
        self.specs = {spec.run: spec for spec in specs}
        self.open: set[str] = set()
        self.ended: dict[str, str] = {}  # run -> status
        for run, spec in self.specs.items():
            row = rows.get(run)
            # Published defaults may change with a version: such a row is of another trial.
            if row is None or row["trial_digest"] != spec.trial_digest:
                continue
            if row["status"] != "failed" or not retry_failed:
                self.ended[run] = str(row["status"])

    @property
    def pending(self) -> list[RunSpec]:
        """The runs that have still to start."""
        return [s for run, s in self.specs.items() if run not in self.ended and run not in self.open]

    @property
    def unfinished(self) -> bool:
        """Tell whether a run is open or has still to start."""
        return len(self.ended) < len(self.specs)

    def begin(self, run: str) -> None:
        """Hand out a run."""
        self.open.add(run)

    def end(self, run: str, status: str) -> None:
        """End a run. One that is not open is ignored."""
        if run in self.open:
            self.open.remove(run)
            self.ended[run] = status

    def hand_back(self, run: str) -> None:
        """Pause a run; the next command continues it."""
        self.open.discard(run)
