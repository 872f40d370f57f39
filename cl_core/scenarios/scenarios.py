"""Scenarios: how many classes each task brings, and the class order in which they arrive.

    B0-10tasks     ten tasks of equal size          B50-5tasks    50 classes first, the rest in five tasks
    B0-inc10       tasks of ten classes             B50-inc5      50 classes first, then five at a time
    B50-20-20-10   50 classes first, then as many as stand there

"B0" is no separate base task. Where the classes do not divide, the last task takes what is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import Int, digest
from cl_core.scenarios.class_orders import CLASS_ORDERS, shortened
from cl_core.scenarios.class_orders import class_order as class_order

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
"""Common scenarios for listing; any other numbers may stand in their places."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 60  # characters of a generated name, which becomes part of file names
_KEYS = ("name", "base", "increment", "tasks", "increments", "class_order")


@dataclass(frozen=True)
class ScenarioSpec:
    """A split of the classes into tasks, for any number of classes that it fits.

    `base` is the number of classes of the first task, 0 for none apart. What follows it is said in one of
    three ways: `increment` classes a task, a number of `tasks`, or `increments` one by one. Raises
    BadRequest.
    """

    name: str
    base: int
    increment: int | None = None
    tasks: int | None = None
    increments: tuple[int, ...] | None = None
    class_order: str = "natural"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadRequest(
                f"a scenario's name has letters, digits, '.', '_' and '-', not {self.name!r}: rename it"
            )
        if not isinstance(self.class_order, str) or not self.class_order:
            raise BadRequest(
                f"class_order must be one of {', '.join(CLASS_ORDERS)}, not {self.class_order!r}"
            )
        Int(0, 10**6).check("scenario base", self.base)
        if sum(part is not None for part in (self.increment, self.tasks, self.increments)) != 1:
            raise BadRequest(
                f"scenario {self.name!r} needs exactly one of increment, tasks and increments after its base"
            )
        if self.increment is not None:
            Int(1, 10**6).check("scenario increment", self.increment)
        if self.tasks is not None:
            Int(1, 10**6).check("scenario tasks", self.tasks)
        if self.increments is not None:
            if not self.increments:
                raise BadRequest(
                    f"scenario {self.name!r} has an empty list of increments: give one number a task"
                )
            for size in self.increments:
                Int(1, 10**6).check("each of a scenario's increments", size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | str) -> ScenarioSpec:
        """The same as `parse_scenario`."""
        return parse_scenario(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `parse_scenario` turns into this again."""
        out: dict[str, Any] = {"name": self.name, "base": self.base}
        if self.increment is not None:
            out["increment"] = self.increment
        if self.tasks is not None:
            out["tasks"] = self.tasks
        if self.increments is not None:
            out["increments"] = list(self.increments)
        return out | {"class_order": self.class_order}

    def sizes(self, num_classes: int) -> tuple[int, ...]:
        """The number of classes of each task; they sum to `num_classes`. Raises BadRequest if it does not
        fit."""
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
    """A scenario from its name, or from {base, increment | tasks | increments, class_order, name}.

    Masana et al.'s "50/11" (classes of the first task / number of tasks) is B50-10tasks; where the two
    numbers multiply to 100, as in "10/10", the split is the even one of CIFAR-100: B0-10tasks. A mapping
    without a name gets the canonical one, with the class order added unless it is natural. Raises BadRequest.
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
    order = value.get("class_order", "natural")
    split = [key for key in ("increment", "tasks", "increments") if value.get(key) is not None]
    if not split and value.get("base") is None and isinstance(value.get("name"), str):
        named = _from_name(value["name"])
        return ScenarioSpec(
            _with_order(named.name, order), named.base, named.increment, named.tasks, named.increments, order
        )
    if len(split) != 1:
        raise BadRequest(
            "a scenario needs exactly one of increment, tasks and increments, "
            f"and got {' and '.join(split) or 'none'}: as in {{base: 50, increments: [30, 20]}}"
        )
    base = Int(0, 10**6).check("scenario base", value.get("base") or 0)
    increments = value.get("increments")
    if increments is not None and (
        isinstance(increments, str) or not isinstance(increments, Sequence) or not increments
    ):
        raise BadRequest(f"scenario increments must be a list with one number a task, not {increments!r}")
    sizes = (
        None
        if increments is None
        else tuple(Int(1, 10**6).check("each of a scenario's increments", n) for n in increments)
    )
    increment = None if sizes is not None else value.get("increment")
    tasks = None if sizes is not None else value.get("tasks")
    if increment is not None:
        increment = Int(1, 10**6).check("scenario increment", increment)
    if tasks is not None:
        tasks = Int(1, 10**6).check("scenario tasks", tasks)
    name = value.get("name")
    if name is None:
        name = _with_order(_canonical(base, increment, tasks, sizes), order)
    return ScenarioSpec(name, base, increment, tasks, sizes, order)


def _from_name(text: str) -> ScenarioSpec:
    if match := re.fullmatch(r"B(\d{1,6})-inc(\d{1,6})", text, re.IGNORECASE):
        return _checked(int(match[1]), increment=int(match[2]))
    if match := re.fullmatch(r"B(\d{1,6})-(\d{1,6})tasks?", text, re.IGNORECASE):
        return _checked(int(match[1]), tasks=int(match[2]))
    if match := re.fullmatch(r"B(\d{1,6})((?:-\d{1,6}){2,})", text, re.IGNORECASE):
        return _checked(int(match[1]), increments=tuple(int(n) for n in match[2][1:].split("-")))
    if match := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text):
        first, tasks = int(match[1]), int(match[2])
        if first * tasks == 100:
            return _checked(0, tasks=tasks)
        if first < 1 or tasks < 2:
            raise BadRequest(
                f"scenario {text!r} needs classes in its first task and at least two tasks: as in 50/11"
            )
        return _checked(first, tasks=tasks - 1)
    near = str(unknown("scenario", text, SCENARIOS))
    raise BadRequest(f"{near}; write B<base>-inc<classes a task>, B<base>-<tasks after it>tasks or a mapping")


def _checked(
    base: int,
    increment: int | None = None,
    tasks: int | None = None,
    increments: tuple[int, ...] | None = None,
) -> ScenarioSpec:
    return ScenarioSpec(_canonical(base, increment, tasks, increments), base, increment, tasks, increments)


def _canonical(
    base: int, increment: int | None, tasks: int | None, increments: tuple[int, ...] | None
) -> str:
    if tasks is not None:
        return f"B{base}-{tasks}tasks"
    if increments is not None and len(set(increments)) > 1:
        name = f"B{base}-" + "-".join(map(str, increments))
        return name if len(name) <= _LONGEST_NAME else f"B{base}-uneven-{digest(list(increments), 8)}"
    return f"B{base}-inc{increment if increments is None else increments[0]}"


def _with_order(name: str, order: object) -> str:
    """The name with the class order: cells are named after scenarios, so two orders need two names."""
    if order == "natural" or not isinstance(order, str):
        return name
    plain = Path(order).stem if "/" in order else shortened(order).replace("seed:", "seed")
    short = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-")
    return f"{name}-{short or 'order'}"


def _in_tasks(classes: int, tasks: int) -> tuple[int, ...]:
    """Equal sizes with a smaller last one; where that would leave a task empty, sizes that differ by one."""
    size = -(-classes // tasks)
    left = classes - size * (tasks - 1)
    if left >= 1:
        return (size,) * (tasks - 1) + (left,)
    small, more = divmod(classes, tasks)
    return (small + 1,) * more + (small,) * (tasks - more)
