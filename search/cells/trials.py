"""A configuration that was asked: its runs, what they came to, and what it came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spaces.resolved.run_spec import RunSpec
from spaces.space.space import Values


@dataclass(frozen=True)
class Ending:
    """How one run ended: "completed", "stopped" or "failed", with its objectives."""

    status: str
    values: tuple[float, ...] = ()


@dataclass
class Point:
    """A configuration. `status` is what Optuna was told: running, completed, stopped or failed."""

    place: int  # of its cell in the study
    number: int
    config: Values
    specs: list[RunSpec]
    trial: int  # number of its Optuna trial
    trial_id: int
    status: str = "running"
    values: tuple[float, ...] | None = None  # told
    endings: dict[int, Ending] = field(default_factory=dict)  # by run
    flying: int | None = None  # the run that is being carried out
    lost: set[int] = field(default_factory=set)  # runs of a stopped one whose rows are gone

    @property
    def pending(self) -> int | None:
        """The next run to start; None while one is under way, or when there is none."""
        if self.flying is None and self.lost:
            return min(self.lost)
        if self.flying is not None or self.status not in ("running", "completed"):
            return None
        return next((index for index in range(len(self.specs)) if index not in self.endings), None)

    @property
    def unfinished(self) -> bool:
        """Whether something of it runs or is still to run."""
        return self.flying is not None or self.pending is not None

    @property
    def failed(self) -> bool:
        """Whether it, or a run that was added to it later, failed."""
        return self.status == "failed" or any(e.status == "failed" for e in self.endings.values())


def aggregated(
    runs: Sequence[Sequence[float]], objectives: Mapping[str, str], worst: bool
) -> tuple[float, ...]:
    """Each objective over the runs of a configuration: the mean, or the worst."""
    out = []
    for column, direction in zip(zip(*runs, strict=True), objectives.values(), strict=True):
        if worst:
            out.append(min(column) if direction == "max" else max(column))
        else:
            out.append(math.fsum(column) / len(column))
    return tuple(out)


def numbers(values: Sequence[float | None]) -> tuple[float, ...] | None:
    """`values` where each is a finite number, else None."""
    known = tuple(float(v) for v in values if v is not None and math.isfinite(v))
    return known if known and len(known) == len(values) else None
