"""Events of a run: a phase begins, an epoch ends, a phase ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from cl_core.images.view import View
from cl_core.method import Phase
from cl_core.state import State
from cl_core.task import Task


class Event(NamedTuple):
    """A point in the training of one phase. `state` and `view` are those that train: read them only.

    A task that comes from a checkpoint has no events. With CHF, every attempt has its own.
    """

    kind: Literal["phase begins", "epoch ends", "phase ends"]
    task: Task
    tasks: int  # tasks of the run
    phase: Phase
    epoch: int  # finished epochs of the phase, 0 to `epochs`
    state: State
    view: View
    replays: int = 0  # when the phase ends: its steps that were replayed from a CUDA graph

    @property
    def epochs(self) -> int:
        """Epochs of the phase."""
        return self.phase.recipe.epochs


Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""
