"""The results of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from cl_core.hparams import Value
from cl_core.method import Method
from cl_core.records import PhaseValue, TaskFacts
from cl_core.task import Task
from cl_core.training.adaptive_options import Attempt
from cl_core.training.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class TaskResult(TaskFacts):
    """The results of one task."""

    task: int
    hp: Mapping[str, Value]  # in force, as is the recipe
    recipe: Mapping[str, Value]
    phases: tuple[PhaseValue, ...]
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Trained:
    """The record of a task's training, as it is stored with a shared checkpoint."""

    phases: tuple[PhaseValue, ...]
    images: int
    seconds: float

    def __add__(self, other: Trained) -> Trained:
        """One training after the other."""
        return Trained(self.phases + other.phases, self.images + other.images, self.seconds + other.seconds)

    def to_meta(self) -> dict[str, Any]:
        """Plain values."""
        return {"phases": [asdict(p) for p in self.phases], "images": self.images, "seconds": self.seconds}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Trained:
        """Make the record that `to_meta` described."""
        return cls(tuple(PhaseValue(**p) for p in meta["phases"]), meta["images"], meta["seconds"])


class Learnt(NamedTuple):
    """A task after its training: the method with its values, the recipe, and the cost."""

    method: Method
    task: Task
    trained: Trained  # phases of what was kept; images and seconds of every attempt
    note: str | None = None
    attempts: tuple[Attempt, ...] = ()  # of task-wise adaptation
