"""Progress of a cell, as commands print it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellProgress:
    """Where a cell stands. `best` is the best first objective of a completed configuration; where a class
    order is sought, that of the hardest or easiest one found, which is nobody's best."""

    cell: str
    budget: int
    asked: int
    running: int
    completed: int
    stopped: int
    failed: int
    best: float | None
    paused: bool = False
    seeks: str = ""  # hardest | easiest, where class orders are searched
