"""Given logits for BiC, and its recorded phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_core.method import METHODS, Phase
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.events import Event
from tests import tiny

BiC = METHODS["bic"]


def given_state(z: Tensor, z_old: Tensor | None = None, pair: tuple[float, float] = (1.0, 0.0)) -> State:
    """Return a state that answers with given logits, and the pair of the correction."""
    state = tiny.fixed_state(z, z_old, BiC.memories)
    state.local["pair"] = torch.nn.Parameter(torch.tensor([pair]))
    return state


def recorded_phases(method: str = "bic", **rest: Any) -> list[tuple[Task, Phase, dict[str, Any]]]:
    """Every phase of a tiny run, with the memories as they were when it began."""
    seen = []

    def watch(event: Event) -> None:
        if event.kind == "phase begins":
            memories = event.state.memories.items()
            copied = {name: {c: rows.clone() for c, rows in m.rows.items()} for name, m in memories}
            seen.append((event.task, event.phase, copied))

    tiny.train(tiny.configuration(method, **rest), watch=watch)
    return seen
