"""A trial: one configuration of a cell, its runs, and how they ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search.cells.stoppers import Course
from spaces.resolved.run_spec import RunSpec
from spaces.space.space import Values


@dataclass(frozen=True)
class RunEnd:
    """The end of one run: "completed", "stopped" or "failed", with its objectives."""

    status: str
    values: tuple[float, ...] = ()


@dataclass
class Trial:
    """A trial. `status` is running, completed, stopped or failed, as in the cell's Optuna study."""

    cell: str
    number: int
    values: Values
    specs: list[RunSpec]
    optuna_number: int
    optuna_id: int
    course: Course
    status: str = "running"
    objectives: tuple[float, ...] | None = None  # over all runs, once completed
    ends: dict[int, RunEnd] = field(default_factory=dict)  # by run
    running: int | None = None  # the run that is being trained
    lost: set[int] = field(default_factory=set)  # runs of a stopped trial whose rows are gone

    @property
    def pending(self) -> int | None:
        """The next run to start; None while one is running, and at the end."""
        if self.running is None and self.lost:
            return min(self.lost)
        if self.running is not None or self.status not in ("running", "completed"):
            return None
        return next((index for index in range(len(self.specs)) if index not in self.ends), None)

    def measured(self, objectives: Mapping[str, str], worst: bool) -> tuple[float, ...] | None:
        """Return each objective over its runs, as measured; None unless all of them have completed."""
        ends = [self.ends.get(run) for run in range(len(self.specs))]
        values = [end.values for end in ends if end is not None and end.status == "completed"]
        return aggregated(values, objectives, worst) if len(values) == len(ends) else None

    @property
    def unfinished(self) -> bool:
        """Tell whether one of its runs is running or has still to start."""
        return self.running is not None or self.pending is not None

    @property
    def failed(self) -> bool:
        """Tell whether the trial failed, or a run that was added to it later."""
        return self.status == "failed" or any(end.status == "failed" for end in self.ends.values())


def aggregated(
    runs: Sequence[Sequence[float]], objectives: Mapping[str, str], worst: bool
) -> tuple[float, ...]:
    """Return each objective over the runs of a trial: the mean, or the worst."""
    out = []
    for column, direction in zip(zip(*runs, strict=True), objectives.values(), strict=True):
        if worst:
            out.append(min(column) if direction == "max" else max(column))
        else:
            out.append(math.fsum(column) / len(column))
    return tuple(out)


def finite(values: Sequence[float | None]) -> tuple[float, ...] | None:
    """Return `values` if each is a finite number, else None."""
    known = tuple(float(v) for v in values if v is not None and math.isfinite(v))
    return known if known and len(known) == len(values) else None
