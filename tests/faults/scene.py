"""A scene: a sweep whose command works, and what stands around it; and a kind of fault."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk import Disk
from tests.faults.nodes import Nodes
from tests.faults.processes import send
from tests.faults.store import Store
from tests.faults.sweep import WAYS, Ended, Sweep


@dataclass
class Scene:
    """A sweep whose command works, and what stands around it. A fault leaves its `notes`."""

    sweep: Sweep
    disk: Disk
    random: random.Random
    nodes: Nodes | None = None
    neighbour: Sweep | None = None  # the same study in another folder, with the same store of checkpoints
    notes: list[str] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    damaged: dict[Path, bytes] = field(default_factory=dict)  # contents of damaged files before
    losses: list[str] = field(default_factory=list)  # that a fault has seen

    @property
    def store(self) -> Store:
        """The object store in which the sweep has its folder."""
        assert self.sweep.store is not None
        return self.sweep.store

    def end(self) -> Ended:
        """Wait for the end of the command."""
        self.ends.append(self.sweep.end())
        return self.ends[-1]

    def kill_driver(self) -> None:
        """Kill the command, and nothing that it has started."""
        send([self.sweep.pid], signal.SIGKILL)
        self.end()


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `ways` are those in which it can happen."""

    name: str
    inflict: Callable[[Scene], None]
    ways: tuple[str, ...] = tuple(WAYS)
    weight: float = 1.0
    small_disk: bool = False
