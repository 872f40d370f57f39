"""Scenarios: how many classes each task brings, and the class order in which they arrive.

    B0-10tasks     ten tasks of equal size          B50-5tasks    50 classes first, the rest in five tasks
    B0-inc10       tasks of ten classes             B50-inc5      50 classes first, then five at a time
    B50-20-20-10   50 classes first, then tasks of 20, 20 and 10

"B0" means no base task. If the classes cannot be divided equally, the last task takes what is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Int, digest
from cl_core.scenarios.class_orders import CLASS_ORDERS, shortened

SCENARIOS: dict[str, str] = {
    "B0-5tasks": "five tasks of equal size",
    "B0-10tasks": "ten tasks of equal size",
    "B0-20tasks": "twenty tasks of equal size",
    "B0-inc10": "ten classes a task",
    "B50-inc10": "a base task of 50 classes, then ten classes a task",
    "B50-inc5": "a base task of 50 classes, then five classes a task",
    "B50-inc2": "a base task of 50 classes, then two classes a task",
    "B50-5tasks": "a base task of 50 classes, the rest in five tasks",
    "B50-10tasks": "a base task of 50 classes, the rest in ten tasks (also written 50/11)",
}
"""Common scenarios for listing; other numbers are valid too."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 60  # characters of a generated name, which becomes part of file names
WAYS = ("increment", "tasks", "increments")
"""The keys that say what follows the base, of which a scenario has one."""

_KEYS = ("name", "base", *WAYS, "class_order")


@dataclass(frozen=True)
class ScenarioSpec:
    """A split of the classes into tasks, for any number of classes that it fits.

    `base` is the number of classes of the base task, or 0. What follows it is given in one of three ways:
    `increment` classes a task, a number of `tasks`, or the list `increments`. Without a name it gets the
    canonical one, with the class order added unless it is natural. Raises BadRequest.
    """

    name: str
    base: int
    increment: int | None = None
    tasks: int | None = None
    increments: tuple[int, ...] | None = None
    class_order: str = "natural"

    def __post_init__(self) -> None:
        if not isinstance(self.class_order, str) or not self.class_order:
            raise BadRequest(
                f"class_order must be one of {', '.join(CLASS_ORDERS)}, not {self.class_order!r}"
            )
        ways = [key for key in WAYS if getattr(self, key) is not None]
        if len(ways) != 1:
            raise BadRequest(
                "a scenario needs exactly one of increment, tasks and increments, "
                f"and got {' and '.join(ways) or 'none'}: as in {{base: 50, increments: [30, 20]}}"
            )
        for key, least in (("base", 0), ("increment", 1), ("tasks", 1)):
            if (value := getattr(self, key)) is not None:
                object.__setattr__(self, key, Int(least, 10**6).check(f"scenario {key}", value))
        if (given := self.increments) is not None:
            if isinstance(given, str) or not isinstance(given, Sequence) or not given:
                raise BadRequest(f"scenario increments must be a list with one number a task, not {given!r}")
            sizes = tuple(Int(1, 10**6).check("each of a scenario's increments", n) for n in given)
            object.__setattr__(self, "increments", sizes)
        if not self.name:
            object.__setattr__(self, "name", _with_order(self._canonical(), self.class_order))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadRequest(
                f"a scenario's name has letters, digits, '.', '_' and '-', not {self.name!r}: rename it"
            )

    def _canonical(self) -> str:
        if self.tasks is not None:
            return f"B{self.base}-{self.tasks}tasks"
        sizes = self.increments or (self.increment,)
        if len(set(sizes)) == 1:
            return f"B{self.base}-inc{sizes[0]}"
        name = f"B{self.base}-" + "-".join(map(str, sizes))
        return name if len(name) <= _LONGEST_NAME else f"B{self.base}-uneven-{digest(list(sizes), 8)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `parse_scenario` turns into this again."""
        values = {key: getattr(self, key) for key in _KEYS if getattr(self, key) is not None}
        return values if self.increments is None else values | {"increments": list(self.increments)}

    def sizes(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of classes of each task. Raises BadRequest unless they sum to `num_classes`."""
        rest = num_classes - self.base
        if rest <= 0:
            raise BadRequest(
                f"scenario {self.name!r} has a base of {self.base} classes, but the data has {num_classes}: "
                "make the base smaller"
            )
        first = (self.base,) if self.base else ()
        if self.increments is not None:
            return first + self._listed(rest, num_classes)
        if self.increment is not None:
            if self.increment > rest:
                raise BadRequest(
                    f"scenario {self.name!r} adds {self.increment} classes a task, but only {rest} follow "
                    "its base: make the increment smaller"
                )
            full, left = divmod(rest, self.increment)
            return first + (self.increment,) * full + ((left,) if left else ())
        assert self.tasks is not None
        if self.tasks > rest:
            raise BadRequest(
                f"scenario {self.name!r} has {self.tasks} tasks for {rest} classes, and each task needs one: "
                "ask for fewer tasks"
            )
        return first + _in_tasks(rest, self.tasks)

    def _listed(self, rest: int, num_classes: int) -> tuple[int, ...]:
        assert self.increments is not None
        total = sum(self.increments)
        told = (
            f"scenario {self.name!r}: base {self.base} + increments {total} must make {num_classes} classes"
        )
        if total < rest:
            raise BadRequest(
                f"{told} and leave {rest - total} out: add them, or set data.classes={self.base + total}"
            )
        if total > rest:
            raise BadRequest(f"{told} and are {total - rest} too many: make the increments smaller")
        return self.increments


def parse_scenario(value: str | Mapping[str, Any]) -> ScenarioSpec:
    """Return a scenario from its name, or from {base, increment | tasks | increments, class_order, name}.

    Masana et al. write "50/11": the classes of the first task / the number of tasks. It is B50-10tasks here.
    If the two numbers multiply to 100, as in "10/10", it is the even split of CIFAR-100: B0-10tasks.
    Raises BadRequest.
    """
    if isinstance(value, str):
        return _from_name(value)
    if not isinstance(value, Mapping):
        raise BadRequest(
            f"a scenario is a name like B0-10tasks or a mapping {{base, increments}}, not {value!r}"
        )
    for key in value:
        if key not in _KEYS:
            raise unknown("scenario key", key, _KEYS)
    given = {key: part for key, part in value.items() if part is not None}
    if given.keys() <= {"name", "class_order"} and isinstance(name := given.get("name"), str):
        named, order = _from_name(name), given.get("class_order", "natural")
        return replace(named, name=_with_order(named.name, order), class_order=order)
    return ScenarioSpec(**{"name": "", "base": 0, **given})


def _from_name(text: str) -> ScenarioSpec:
    if match := re.fullmatch(r"B(\d{1,6})-inc(\d{1,6})", text, re.IGNORECASE):
        return ScenarioSpec("", int(match[1]), increment=int(match[2]))
    if match := re.fullmatch(r"B(\d{1,6})-(\d{1,6})tasks?", text, re.IGNORECASE):
        return ScenarioSpec("", int(match[1]), tasks=int(match[2]))
    if match := re.fullmatch(r"B(\d{1,6})((?:-\d{1,6}){2,})", text, re.IGNORECASE):
        return ScenarioSpec("", int(match[1]), increments=tuple(int(n) for n in match[2][1:].split("-")))
    if match := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text):
        first, tasks = int(match[1]), int(match[2])
        if first * tasks == 100:
            return ScenarioSpec("", 0, tasks=tasks)
        if first < 1 or tasks < 2:
            raise BadRequest(
                f"scenario {text!r} needs classes in its first task and at least two tasks: as in 50/11"
            )
        return ScenarioSpec("", first, tasks=tasks - 1)
    near = str(unknown("scenario", text, SCENARIOS))
    raise BadRequest(f"{near}; write B<base>-inc<classes a task>, B<base>-<tasks after it>tasks or a mapping")


def _with_order(name: str, order: object) -> str:
    """Return the name with the class order. Cells are named after scenarios, so two orders need two names."""
    if order == "natural" or not isinstance(order, str):
        return name
    plain = Path(order).stem if "/" in order else shortened(order).replace("seed:", "seed")
    short = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-")
    return f"{name}-{short or 'order'}"


def _in_tasks(classes: int, tasks: int) -> tuple[int, ...]:
    """Return equal sizes with a smaller last one, or sizes that differ by one if a task would be empty."""
    size = -(-classes // tasks)
    left = classes - size * (tasks - 1)
    if left >= 1:
        return (size,) * (tasks - 1) + (left,)
    small, more = divmod(classes, tasks)
    return (small + 1,) * more + (small,) * (tasks - more)
