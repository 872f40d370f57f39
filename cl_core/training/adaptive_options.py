"""The options of task-wise adaptation, apart from `cl_core.training.adaptive`, which needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cl_core.hparams import Int, Value


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task: its values and its accuracy.

    `values` are named as in the table `tasks`: "hp.kd_weight", "recipe.lr". Empty ones are the run's own.
    `accuracy` is that on validation rows of all classes seen so far; None where the training diverged.
    """

    values: Mapping[str, Value]
    accuracy: float | None
    images: int


class Proposer(Protocol):
    """Proposes values for the next attempt at a task."""

    def propose(self, task: int, history: Sequence[Attempt]) -> Mapping[str, Value]:
        """Return values, named as those of `Attempt`, after the attempts so far at this task.

        Equal arguments must give equal values, so that a run that resumes repeats its numbers.
        """
        ...


@dataclass(frozen=True)
class Adaptive:
    """The options of the adaptation."""

    attempts: int = 6  # trainings of each task after the first
    proposer: Mapping[str, Any] | None = None  # plain values from which the search makes its proposer

    def __post_init__(self) -> None:
        Int(1, 1000).check("adaptive.attempts", self.attempts)
