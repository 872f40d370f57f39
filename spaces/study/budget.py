"""Limits of a study's spending. At a limit no new run starts, and running tasks finish."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from cl_core.errors import BadRequest
from spaces.study.part import Part

_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(s|min|m|h|d)\s*")


class BudgetPart(Part):
    """The limits of a study's spending. By default there are none."""

    gpu_hours: float | None = Field(
        default=None, gt=0, description="GPU hours of all commands on the run folder together"
    )
    wall: Annotated[str | None, AfterValidator(lambda value: _readable(seconds_in, value))] = Field(
        default=None, description="time limit of one command, such as 90min, 3h50min or 2d"
    )
    until: Annotated[str | None, AfterValidator(lambda value: _readable(moment, value))] = Field(
        default=None, description="date and time of the end, such as 2027-01-31T18:00; local time by default"
    )
    grace: Annotated[str, AfterValidator(lambda value: _readable(_grace, value))] = Field(
        default="25s",
        description="time that running tasks have to end after SIGTERM, SIGUSR1 or budget.until, such as "
        "5min",
    )

    @property
    def grace_seconds(self) -> float:
        """`grace` in seconds."""
        return seconds_in(self.grace)

    @property
    def wall_seconds(self) -> float | None:
        """`wall` in seconds."""
        return None if self.wall is None else seconds_in(self.wall)

    @property
    def until_time(self) -> float | None:
        """`until` as Unix time."""
        return None if self.until is None else moment(self.until)


def _grace(text: str) -> float:
    return seconds_in(text, "budget.grace")


def _readable(read: Callable[[str], float], value: str | None) -> str | None:
    if value is not None:
        read(value)
    return value


def seconds_in(text: str, key: str = "budget.wall") -> float:
    """Return a time span such as "90min" or "3h50min" in seconds. Raises BadRequest."""
    total, at = 0.0, 0
    while found := _SPAN.match(text, at):
        total, at = total + float(found[1]) * _UNITS[found[2]], found.end()
    if at != len(text) or total <= 0:
        raise BadRequest(f"{key} must be a time span, not {text!r}: write 45s, 90min, 3h50min or 2d")
    return total


def moment(text: str) -> float:
    """Return an ISO 8601 date and time as Unix time. Raises BadRequest."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadRequest(
            f"budget.until must be a date and time, not {text!r}: write it as 2027-01-31T18:00"
        ) from None
