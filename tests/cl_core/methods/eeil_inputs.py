"""Given logits for EEIL, and its recorded phases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from cl_core.images.dataset import Data
from cl_core.method import METHODS, Phase
from cl_core.nets.network import Frozen
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.checkpoints import network_digest
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from tests import tiny

EEIL = METHODS["eeil"]


def given_state(z: Tensor, z_old: Tensor, z_stage1: Tensor | None = None) -> State:
    """Return a state that answers with given logits; `z_stage1` are those of the copy after stage 1."""
    state = tiny.fixed_state(z, z_old, EEIL.memories)
    if z_stage1 is not None:
        state.copies["stage1"] = Frozen(tiny.Fixed(z_stage1))  # type: ignore[arg-type]
    return state


def balanced_terms(hp: dict[str, Any], s: State, b: Batch, task: Task) -> dict[str, Term]:
    """Return the terms of the balanced stage."""
    return EEIL(hp).balanced_loss(s, b, task)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Seen:
    """A phase of a run, with what stood when it began and ended."""

    task: Task
    phase: Phase
    memory: dict[int, list[int]]
    before: str  # digests of the network
    after: str
    copy: str | None  # digest of the network frozen after stage 1


def recorded_phases(
    hp: dict[str, Any] | None = None, source: Data | None = None, **rest: Any
) -> tuple[list[Seen], Training]:
    """Return every phase of a tiny run, and its training."""
    seen: list[Seen] = []
    before = ""

    def watch(event: Event) -> None:
        nonlocal before
        state = event.state
        if event.kind == "phase begins":
            before = network_digest(state.net.state_dict())
        elif event.kind == "phase ends":
            memory = {c: rows.tolist() for c, rows in state.memory.rows.items()}
            after = network_digest(state.net.state_dict())
            frozen = state.copies.get("stage1")
            copy = network_digest(frozen.net.state_dict()) if frozen is not None else None
            seen.append(Seen(event.task, event.phase, memory, before, after, copy))

    finished = tiny.train(tiny.configuration("eeil", hp, **rest), source, watch=watch)
    return seen, finished.training


@cache
def default_run() -> tuple[list[Seen], Training]:
    """Return the phases of a tiny run by default, trained once."""
    return recorded_phases()


def labels_of(training: Training, rows: Tensor) -> list[int]:
    """Return the class of each row."""
    return training.view.labels(rows).tolist()
